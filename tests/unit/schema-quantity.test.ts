import t from 'tap';
import { quantityMilli, quantityNano, quantityUnits } from '../../src/schema/index.ts';

t.test('quantities of Kubernetes', async (t) => {
  const units: [string, number][] = [
    ['0', 0], ['4096', 4096], ['16Ki', 16384], ['16Mi', 16777216], ['1Gi', 2 ** 30], ['4Pi', 2 ** 52],
    ['50M', 50_000_000], ['1G', 1e9], ['1.5G', 1.5e9], ['.5k', 500], ['1.', 1], ['+2', 2], ['-3', -3],
    ['1e3', 1000], ['1E3', 1000], ['12e-1', 2], ['0.1', 1], ['1500m', 2], ['-1500m', -1], ['1n', 1], ['1u', 1],
  ];
  for (const [text, expected] of units) t.equal(quantityUnits(text), expected, text);
  t.equal(quantityMilli('500m'), 500);
  t.equal(quantityMilli('2'), 2000);
  t.equal(quantityMilli('0.0001'), 1, 'rounded up');
  t.equal(quantityNano('1.5n'), 2n, 'rounded up to billionths');
  t.equal(quantityNano('1E'), 10n ** 27n, 'exact beyond doubles');
});

t.test('what is no quantity, or too large', async (t) => {
  for (const text of ['', ' 1', '1 ', '1Mb', '16MB', '1mi', 'Mi', '.', '-', '1.2.3', '0x10', '1e', '1e99', 'NaN', '1K', '9'.repeat(65)]) t.equal(quantityNano(text), undefined, JSON.stringify(text));
  t.equal(quantityUnits('1E'), undefined, 'beyond 2^53');
});
