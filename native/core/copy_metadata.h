// All that is known of a file beside its data: owner, mode, extended attributes (POSIX ACLs and file
// capabilities among them), inode flags, times.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "result.h"
#include "xattr.h"

namespace overlayfs {

// One end of a copy: any open descriptor, one opened with O_PATH too (which stands for a symbolic link, a
// device or a FIFO itself).
struct Inode {
  int fd = -1;
  bool path_only = false;  // O_PATH
};

struct MetadataOptions {
  // What the overlay's own attributes begin with: they stay behind, but for those that are escaped for an
  // overlay inside ("<prefix>overlay."). Empty: all are copied.
  std::string private_prefix;
  // The copy is no layer: the escaped ones stay behind too, since it must not become a mark that nobody set
  // there, and are among what is told as not taken, by the names that the overlay shows.
  bool plain = false;
  // Append-only and immutable as `<private_prefix>protattr`, as the kernel keeps them in an upper. Otherwise
  // they stay behind: nothing could be done with the copy any more.
  bool protattr = false;
  std::vector<Xattr> extra;  // further attributes for the copy
};

// In the kernel's order, for calls that strip what they must: owner, mode, attributes, flags, times. Gives
// the names of the attributes that the copy's file system would not take; ACLs and security.* must be taken,
// as the kernel has it.
Result<std::vector<std::string>> copy_metadata(Inode from, Inode to, const struct stat& source,
                                               const MetadataOptions& options);

// Access and modification time, in nanoseconds.
Result<void> set_times(Inode to, const struct stat& source);

Result<void> set_xattr(Inode to, const std::string& name, const std::string& value);

}  // namespace overlayfs
