// @tidegate/client: the public face.

export { Tidegate } from './client.js'
export type { AuthRequest, CommandOptions, PublishOptions, TidegateEvents, TidegateOptions } from './client.js'
export { Channel, StateChannel } from './channels.js'
export type { Change, StateEvents } from './channels.js'
export { TidegateError } from './errors.js'
export type { ChannelEvents, Credential, Gap, Message, Published, Status, StatusChange, SubscriptionStatus } from './machine-io.js'
export type { Messages, MessagesOptions, Overflow } from './messages.js'
export type { ChannelKind, Position, Recovery, Since, Welcome } from './protocol.js'
export type { WebSocketConstructor } from './transport.js'
