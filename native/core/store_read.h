// Reading the small files of a store, many at a time.
#pragma once

#include <string>
#include <vector>

#include "result.h"

namespace overlayfs {

// What stands at each path below the root, packed; nothing is followed. Little-endian, for each: type (u8: 0
// nothing, 1 file, 2 directory, 3 symbolic link, 4 anything else, 5 it could not be looked at), mode (u16),
// errno (u32), owner (u32), length (u32) and the bytes: a file's content or a link's target.
// `errno` is a file's that could not be read, or is larger than `most` (EFBIG).
Result<std::string> read_store(int root, const std::vector<std::string>& paths, size_t most);

// The names in directories, packed, for each: length (u32) and the names, each behind its type (a byte:
// d_type of readdir(3)) and ended by a NUL; without `.` and `..`. A directory that is missing has none.
Result<std::string> read_store_names(int root, const std::vector<std::string>& paths);

}  // namespace overlayfs
