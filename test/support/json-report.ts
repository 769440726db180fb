// vitest's JSON report for `npm run verify`, without the line that vitest prints about it: the summary stays last.
import { mkdirSync, writeFileSync } from 'node:fs';
import { JsonReporter } from 'vitest/node';

const folder = new URL('../../.build/', import.meta.url);

export default class extends JsonReporter {
  override async writeReport(report: string): Promise<void> {
    mkdirSync(folder, { recursive: true });
    writeFileSync(new URL('test-report.json', folder), report);
  }
}
