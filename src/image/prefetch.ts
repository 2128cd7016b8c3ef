/** Layers are merged one after the other, lowest first, but fetched side by side. */
import { join } from 'node:path';
import type { LayerBlob } from './layered-image.ts';
import { openSpool } from './spool.ts';
import type { Spool } from './spool.ts';

export interface PrefetchOptions {
  /** For layers that arrive before their turn. */
  directory: string;
  /** How many are fetched at a time. */
  parallel: number;
  /** All layers are left in the directory, each as a file named by `spoolName`. */
  keep: boolean;
  onProgress?: (layer: LayerBlob, doneBytes: number) => void;
}

export interface Prefetched {
  /** Each can be opened once. */
  layers: LayerBlob[];
  /** Ends what is still under way. To be called in any case. */
  close(): Promise<void>;
}

/** The file of the layer with that index. */
export function spoolName(index: number): string {
  return `layer-${index}`;
}

/** Starts at once. */
export function prefetch(layers: readonly LayerBlob[], options: PrefetchOptions): Prefetched {
  const abort = new AbortController();
  const spools = layers.map((_, index) => openSpool(join(options.directory, spoolName(index)), { keep: options.keep }));
  let next = 0;

  async function work(): Promise<void> {
    for (let index = next++; index < layers.length; index = next++) {
      const [layer, spool] = [layers[index], spools[index]];
      if (layer === undefined || spool === undefined || abort.signal.aborted) return;
      await fetchInto(spool, layer, { signal: abort.signal, ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }) });
    }
  }

  const workers = Array.from({ length: Math.min(options.parallel, layers.length) }, work);
  return {
    layers: layers.map((layer, index) => ({ ...layer, open: () => spools[index]?.read() ?? layer.open() })),
    close: async () => {
      abort.abort();
      for (const spool of spools) spool.close();
      await Promise.all(workers);
    },
  };
}

async function fetchInto(spool: Spool, layer: LayerBlob, { signal, onProgress }: { signal: AbortSignal; onProgress?: (layer: LayerBlob, doneBytes: number) => void }): Promise<void> {
  let doneBytes = 0;
  try {
    for await (const chunk of layer.open(signal)) {
      await spool.write(chunk);
      if (signal.aborted) return;
      doneBytes += chunk.length;
      onProgress?.(layer, doneBytes);
    }
    spool.end();
  } catch (error) {
    // Whoever reads the layer hears of it.
    spool.fail(error);
  }
}
