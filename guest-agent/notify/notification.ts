/** What an app says with sd_notify(3). Pure. */

export interface Notification {
  ready: boolean;
  /** Undefined: it said nothing about it. */
  status: string | undefined;
}

/** A status line is for one line of a terminal. */
const STATUS_MAX_CHARACTERS = 256;

/** @param text `NAME=VALUE` lines; what is not understood is ignored, as sd_notify asks */
export function parseNotification(text: string): Notification {
  const notification: Notification = { ready: false, status: undefined };
  for (const line of text.split('\n')) {
    if (line === 'READY=1') notification.ready = true;
    else if (line.startsWith('STATUS=')) notification.status = printable(line.slice('STATUS='.length));
  }
  return notification;
}

function printable(text: string): string {
  let result = '';
  for (const character of text.slice(0, STATUS_MAX_CHARACTERS)) {
    const code = character.codePointAt(0) ?? 0;
    result += code < 32 || (code >= 0x7f && code < 0xa0) ? ' ' : character;
  }
  return result;
}
