/** When a pod is ready: every app has been started, and those that tell by themselves have said so. Pure. */
export class Readiness {
  readonly #onReady: () => void;
  readonly #missing = new Set<string>();

  constructor(onReady: () => void) {
    this.#onReady = onReady;
  }

  /** Before the first app is started. */
  expect(app: string): void {
    this.#missing.add(app);
  }

  reached(app: string): void {
    if (this.#missing.delete(app) && this.#missing.size === 0) this.#onReady();
  }
}
