// name_to_handle_at(2): what tells one inode of a file system from every other, over time, and how overlayfs
// writes it into an attribute (struct ovl_fb of fs/overlayfs/overlayfs.h).
#pragma once

#include <array>
#include <optional>
#include <string>

#include "fd.h"
#include "result.h"

namespace overlayfs {

using Uuid = std::array<unsigned char, 16>;

struct FileHandle {
  int type = 0;
  std::string bytes;
};

// Of what `path` names below `dirfd`, not followed; an empty path is the descriptor itself (O_PATH will do).
Result<FileHandle> file_handle(int dirfd, const std::string& path);

// What a handle stands for; `mount` is a readable descriptor on its file system. Asks for
// CAP_DAC_READ_SEARCH.
Result<Fd> open_handle(int mount, const FileHandle& handle, int flags);

// The uuid that overlayfs writes beside the handle; all zeros where the file system has none, or does not
// tell it (tmpfs before Linux 6.9).
Result<Uuid> file_system_uuid(int directory);

}  // namespace overlayfs
