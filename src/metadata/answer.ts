/** What a request is answered with. */

export interface Answer {
  status: number;
  type: 'application/json' | 'text/plain; charset=us-ascii' | 'text/plain; charset=utf-8';
  body: string;
}

export function json(body: string): Answer {
  return { status: 200, type: 'application/json', body };
}

/** Of what is ASCII by its nature: UUIDs, digests, base64. */
export function ascii(body: string): Answer {
  return { status: 200, type: 'text/plain; charset=us-ascii', body };
}

export function text(body: string): Answer {
  return { status: 200, type: 'text/plain; charset=utf-8', body };
}

export function refusal(status: number, message: string): Answer {
  return { status, type: 'text/plain; charset=utf-8', body: `${message}\n` };
}
