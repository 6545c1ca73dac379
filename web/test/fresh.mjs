// Is dist/ what the sources give? Builds anew beside it and compares every byte: the gateway embeds what is committed.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'vite'

const root = fileURLToPath(new URL('..', import.meta.url))
const outDir = mkdtempSync(join(tmpdir(), 'tidegate-web-'))

function files(folder, from = folder) {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name)
    return statSync(path).isDirectory() ? files(path, from) : [relative(from, path)]
  })
}

try {
  await build({ root, logLevel: 'warn', build: { outDir, emptyOutDir: true } })
  const committed = files(join(root, 'dist')).sort()
  const built = files(outDir).sort()
  const differs = (name) => {
    if (!committed.includes(name) || !built.includes(name)) return true
    return !readFileSync(join(root, 'dist', name)).equals(readFileSync(join(outDir, name)))
  }
  const stale = [...new Set([...committed, ...built])].filter(differs)
  // New names come with new bytes, and are easily left out of a commit.
  const git = spawnSync('git', ['ls-files', '--others', '--exclude-standard', 'dist'], { cwd: root, encoding: 'utf8' })
  const unknown = git.status === 0 ? git.stdout.split('\n').filter(Boolean) : []
  if (unknown.length) {
    console.error(`not in git yet: ${unknown.join(', ')}`)
    process.exitCode = 1
  }
  if (stale.length) {
    console.error(`web/dist is not what the sources give (npm run build, and commit it): ${stale.join(', ')}`)
    process.exitCode = 1
  } else console.log(`web/dist is fresh: ${built.length} files`)
} finally {
  rmSync(outDir, { recursive: true, force: true })
}
