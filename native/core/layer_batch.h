// Doing one thing to many paths of a layer: each is done whole or not at all, the first failure ends it, and
// what was done until then is told.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "beneath.h"
#include "cancel.h"
#include "tree_path.h"

namespace overlayfs {

// Why a path was refused where no system call has failed, or where its error does not say enough.
enum class BatchRefusal {
  none,
  in_opaque,       // the directory, or one above it, is opaque
  on_overlay,      // overlayfs makes no whiteouts of devices
  not_whiteout,    // there is something else
  marked_x,        // the directory holds whiteouts that are files
  root,            // the layer's own root cannot have it
  without_xattrs,  // the file system has no attributes of this namespace
  malformed        // the kernel could not read it
};
const char* refusal_name(BatchRefusal refusal);

struct BatchError {
  BatchError(SysError failure, BatchRefusal why = BatchRefusal::none)
      : refusal(why), error(std::move(failure)) {}
  BatchRefusal refusal;
  SysError error;
  size_t index = 0;
  std::string path;  // the whole path, where it is not the batch's own
};

struct Batch {
  std::string outcomes;  // one byte for each path: 0, it was not come to; the others are the verb's own
  std::optional<BatchError> failure;
};

// An outcome, or why there is none.
using Done = std::variant<char, BatchError>;

// Opens each directory that holds one of the paths once, in the order in which they first appear.
// `enter` looks at a directory before the first of its names; it may refuse. With `absent` a directory that
// is not there is no failure, but the outcome of its names.
struct Directory {
  std::string_view path;
  Fd fd;
};
using Enter = std::function<std::optional<BatchError>(const Directory&)>;
using Act = std::function<Done(const Directory&, const std::string& name)>;
Batch in_each_directory(int layer, const std::vector<std::string>& paths, const Cancel& cancel,
                        const Enter& enter, const Act& act, std::optional<char> absent = {});

// Opens what each path names (O_PATH, a symbolic link itself), the root of the layer included.
using Visit = std::function<Done(const Fd& fd, size_t index)>;
Batch at_each_path(int layer, const std::vector<std::string>& paths, const Cancel& cancel, int flags,
                   const Visit& visit);

}  // namespace overlayfs
