/** Archives of layers and of whole trees: written and read by Python's tarfile. */
import { python } from '../python.ts';
import type { Seen, View } from '../view.ts';
import { asPlain, mapTree } from '../view.ts';
import type { ArchiveEntry } from './tar-split.ts';

/**
 * Writes what lies in a layer's directory as an image layer's archive: whiteouts and opaque marks as the files of aufs,
 * hard links by their first name, file capabilities, no sockets. The same directory gives the same bytes.
 */
export const archiveLayer = python<{ directory: string; archive: string }, readonly ArchiveEntry[]>(`
import os, stat, tarfile

def answer(request):
    root, entries, first = os.fsencode(request['directory']), [], {}
    with open(request['archive'], 'wb') as out:
        def add(info, path=None):
            header = info.tobuf(tarfile.PAX_FORMAT, 'utf-8', 'surrogateescape')
            out.write(header)
            if info.size:
                with open(path, 'rb') as file: data = file.read()
                out.write(data + bytes(-len(data) % 512))
            name = os.fsencode(info.name).decode('latin1') + ('/' if info.isdir() else '')
            entries.append(dict(name=name, header=len(header), size=info.size))
        def visit(directory):
            for name in sorted(os.listdir(os.path.join(root, directory))):
                place = os.path.join(directory, name)
                path = os.path.join(root, place)
                st = os.lstat(path)
                info = tarfile.TarInfo(os.fsdecode(place))
                info.mode, info.uid, info.gid, info.mtime = stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, int(st.st_mtime)
                if stat.S_ISSOCK(st.st_mode): continue
                if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
                    info.name = os.fsdecode(os.path.join(directory, b'.wh.' + name))
                    add(info)
                    continue
                if stat.S_ISDIR(st.st_mode):
                    info.type = tarfile.DIRTYPE
                    add(info)
                    if 'trusted.overlay.opaque' in os.listxattr(path):
                        add(tarfile.TarInfo(os.fsdecode(os.path.join(place, b'.wh..wh..opq'))))
                    visit(place)
                    continue
                if st.st_nlink > 1 and st.st_ino in first:
                    info.type, info.linkname = tarfile.LNKTYPE, first[st.st_ino]
                    add(info)
                    continue
                first[st.st_ino] = info.name
                if stat.S_ISLNK(st.st_mode): info.type, info.linkname = tarfile.SYMTYPE, os.fsdecode(os.readlink(path))
                elif stat.S_ISFIFO(st.st_mode): info.type = tarfile.FIFOTYPE
                elif stat.S_ISREG(st.st_mode): info.size = st.st_size
                else:
                    info.type = tarfile.BLKTYPE if stat.S_ISBLK(st.st_mode) else tarfile.CHRTYPE
                    info.devmajor, info.devminor = os.major(st.st_rdev), os.minor(st.st_rdev)
                if stat.S_ISREG(st.st_mode) and 'security.capability' in os.listxattr(path):
                    value = os.getxattr(path, 'security.capability').decode('utf-8', 'surrogateescape')
                    info.pax_headers = {'SCHILY.xattr.security.capability': value}
                add(info, path)
        visit(b'')
        out.write(bytes(1024))
    return entries
`);

/** What of a view an archive of the same tree can hold: whole seconds, file capabilities, no sockets. */
export function asArchived(shown: View): Record<string, unknown> {
  const kept = Object.entries(asPlain(shown)).filter(([path, { type }]) => path !== '.' && type !== 'socket');
  return mapTree(Object.fromEntries(kept), ({ mtime, size, type, xattrs, ...rest }) => ({
    ...rest,
    type,
    size: type === 'file' ? size : 0,
    mtime: String(BigInt(mtime) / 1_000_000_000n),
    xattrs: Object.fromEntries(Object.entries(xattrs).filter(([name]) => name === 'security.capability')),
  }));
}

/** The same of an archive. */
export async function readArchive(archive: string): Promise<Record<string, unknown>> {
  return asArchived(await read({ archive }));
}

const read = python<{ archive: string }, Record<string, Seen>>(`
import hashlib, os, tarfile

types = {tarfile.REGTYPE: 'file', tarfile.AREGTYPE: 'file', tarfile.DIRTYPE: 'directory', tarfile.SYMTYPE: 'symlink',
         tarfile.FIFOTYPE: 'fifo', tarfile.CHRTYPE: 'character', tarfile.BLKTYPE: 'block'}
latin1 = lambda text: text.encode('utf-8', 'surrogateescape').decode('latin1')

def answer(request):
    found = {}
    with tarfile.open(request['archive'], encoding='utf-8', errors='surrogateescape') as tar:
        for member in tar:
            name = latin1(member.name)
            if member.islnk():
                original = found[latin1(member.linkname)]
                original['group'] = original['group'] or latin1(member.linkname)
                found[name] = original
                continue
            kind = types[member.type]
            capability = member.pax_headers.get('SCHILY.xattr.security.capability')
            found[name] = dict(
                type=kind, mode=member.mode & 0o7777, owner=[member.uid, member.gid], size=member.size,
                mtime=str(int(member.mtime) * 10**9), target=latin1(member.linkname) if kind == 'symlink' else None,
                device=[member.devmajor, member.devminor] if kind in ('character', 'block') else None,
                content=hashlib.sha256(tar.extractfile(member).read()).hexdigest() if kind == 'file' else None,
                xattrs={} if capability is None else
                       {'security.capability': capability.encode('utf-8', 'surrogateescape').hex()},
                group=None)
    return dict(sorted(found.items()))
`);
