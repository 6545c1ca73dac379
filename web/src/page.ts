// The elements of the page, by the names that its test knows them by.

/** The element with this `data-testid`. That it exists is index.html's promise. */
export function element<T extends Element = HTMLElement>(testid: string): T {
  const found = document.querySelector<T>(`[data-testid="${testid}"]`)
  if (!found) throw new Error(`the page has no ${testid}`)
  return found
}

/** Sets a text, if it is another: a screen reader or a selection is not disturbed for nothing. */
export function setText(node: Element, text: string): void {
  if (node.textContent !== text) node.textContent = text
}

/** A new element with a class and a text. */
export function make<Name extends keyof HTMLElementTagNameMap>(name: Name, className = '', text = ''): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name)
  if (className) made.className = className
  if (text) made.textContent = text
  return made
}

const NUMBERS = new Intl.NumberFormat('en')

export function count(value: number): string {
  return NUMBERS.format(value)
}
