// What became of paths that were to be copied up, packed for JavaScript: one crossing for all of them.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

namespace overlayfs {

// Indices into the methods of lib/layer/copy-up-stream.ts; the first four are CopyMethod's.
enum class CopyUpMethod : uint8_t { clone, copy_file_range, sendfile, read_write, kernel, skipped };

struct CopyUpRow {
  std::string path;
  CopyUpMethod method = CopyUpMethod::skipped;
  uint64_t bytes = 0;
  bool cloned = false;
  std::string reason;  // empty: none
};

Napi::Object copy_up_batch_to_js(Napi::Env env, const std::vector<CopyUpRow>& rows);

}  // namespace overlayfs
