// Whiteouts: names that hide what is below them. See Documentation/filesystems/overlayfs.rst, "whiteouts and
// opaque directories".
#pragma once

#include <string>
#include <vector>

#include "layer_batch.h"

namespace overlayfs {

enum class WhiteoutForm : char {
  none = 1,
  device,  // a character device 0:0
  xattr,   // an empty regular file with overlay.whiteout, in a directory marked `x`: for lower layers
  aufs     // a file named .wh.NAME beside where NAME would be; no kernel overlay honours it
};

enum class WhiteoutMade : char {
  made = 1,
  linked,   // to one that was made before it
  present,  // it was there
  replaced  // a file, or an empty directory
};

struct WhiteoutOrder {
  std::vector<std::string> paths;
  WhiteoutForm form = WhiteoutForm::device;
  bool share = false;    // one inode for as many names as the file system lets it have
  bool replace = false;  // what stands there, but for directories with content
  std::string xattr_prefix;
};

// Outcomes: WhiteoutMade.
Batch create_whiteouts(int layer, const WhiteoutOrder& order, const Cancel& cancel);

// Outcomes: WhiteoutForm, what it was. What is no whiteout is none, or refused. In a directory that is not
// there is none.
Batch whiteout_forms(int layer, const std::vector<std::string>& paths, const std::string& xattr_prefix,
                     const Cancel& cancel);
Batch remove_whiteouts(int layer, const std::vector<std::string>& paths, const std::string& xattr_prefix,
                       const Cancel& cancel);

// renameat2(2) with RENAME_WHITEOUT: moves, and leaves a whiteout, in one step. Index 0 of a failure is
// `from`.
std::optional<BatchError> rename_with_whiteout(int layer, const std::string& from, const std::string& to,
                                               bool replace, const std::string& xattr_prefix);

}  // namespace overlayfs
