// The data of one regular file, by the best way that its file systems have: sharing it (FICLONE), then
// copy_file_range(2), sendfile(2), and read(2) with write(2). Holes stay holes.
#pragma once

#include <atomic>
#include <cstdint>

#include "cancel.h"
#include "result.h"

namespace overlayfs {

enum class CopyMethod { clone, copy_file_range, sendfile, read_write };
const char* copy_method_name(CopyMethod method);

struct CopiedData {
  CopyMethod method = CopyMethod::read_write;  // the least of those that were needed
  uint64_t bytes = 0;                          // of data: holes are not counted, unless it was cloned
  bool cloned() const { return method == CopyMethod::clone; }
};

struct CopyControl {
  Cancel cancel;                            // looked at between two chunks: ECANCELED
  std::atomic<uint64_t>* copied = nullptr;  // counts the bytes as they are copied
};

// Fills `to`, an empty file, with the first `size` bytes of `from`, both regular files. A source that is
// shorter by the time it is read is ESTALE.
Result<CopiedData> copy_data(int from, int to, uint64_t size, const CopyControl& control = {});

}  // namespace overlayfs
