// The table of what each kernel made of the tests.

/** In Markdown: one row for each kernel. */
export function markdown(reports) {
  const rows = Object.entries(reports).map(([name, report]) =>
    report.tests === undefined
      ? [name, '–', '–', '–', '–', '–', '–', '–', '–']
      : [
          name,
          report.release,
          report.arch,
          `${report.node}`,
          report.tests,
          report.passed,
          report.failed.length,
          report.unavailable.length + report.skipped.length,
          report.seconds,
        ],
  );
  const head = ['runner', 'kernel', 'arch', 'Node.js', 'tests', 'passed', 'failed', 'unavailable', 'seconds'];
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |\n`).join('');
}
