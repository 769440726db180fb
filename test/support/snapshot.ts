/**
 * A directory tree byte for byte and attribute for attribute: two snapshots are equal if nothing has changed. Read by
 * Python, whose os module knows extended attributes, so that what the package says is not its own witness.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const program = `
import hashlib, json, os, stat, sys

def entry(path):
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    content = None
    if kind == stat.S_IFREG:
        with open(path, 'rb') as file: content = hashlib.sha256(file.read()).hexdigest()
    elif kind == stat.S_IFLNK: content = os.fsencode(os.readlink(path)).hex()
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in names}
    status = dict(mode=oct(st.st_mode), links=st.st_nlink, owner=[st.st_uid, st.st_gid], device=st.st_rdev)
    return dict(status, content=content, xattrs=xattrs)

for line in sys.stdin:
    root = os.fsencode(json.loads(line))
    paths = [root]
    for folder, folders, files in os.walk(root):
        paths += [os.path.join(folder, name) for name in folders + files]
    print(json.dumps({path.decode('latin1'): entry(path) for path in paths}), flush=True)
`;

/** What is known of one file. */
export interface Entry {
  readonly mode: string;
  readonly links: number;
  readonly owner: readonly [number, number];
  readonly device: number;
  /** A digest, or where a symbolic link leads. */
  readonly content: string | null;
  /** In hexadecimal. */
  readonly xattrs: Readonly<Record<string, string>>;
}

/** What stands at this path and below it. */
export async function snapshot(path: string): Promise<Record<string, Entry>> {
  reader ??= startReader();
  return JSON.parse(await reader(JSON.stringify(path))) as Record<string, Entry>;
}

/** The extended attributes of one file, in hexadecimal. */
export async function xattrs(path: string): Promise<Entry['xattrs']> {
  return (await snapshot(path))[path]?.xattrs ?? {};
}

let reader: ((line: string) => Promise<string>) | undefined;

// One process for all: starting Python takes longer than most tests.
function startReader(): (line: string) => Promise<string> {
  const python = spawn('python3', ['-c', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  python.unref();
  const answers = createInterface(python.stdout)[Symbol.asyncIterator]();
  return async (line) => {
    python.stdin.write(`${line}\n`);
    const { value, done } = await answers.next();
    if (done) throw new Error('python3 ended');
    return value;
  };
}
