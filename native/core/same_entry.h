// Whether two entries are the same to whoever reads them: type, mode, owner, extended attributes and content.
// Link counts, inode numbers and a directory's times are not looked at.
#pragma once

#include <string>

#include "cancel.h"
#include "fd.h"
#include "result.h"

namespace overlayfs {

enum class Difference { none, type, content, metadata };

enum class Reading {
  in_doubt,  // files whose modification times differ, or tell too little: no fraction of a second, or written
             // within a second before the last change
  always,
};

// Descriptors of any kind (O_PATH too). `data`: where the content of `other` lies, if it is a file.
// `private_prefix`: attributes of an overlay's own, which do not count.
Result<Difference> difference_between(int one, int other, int data, const std::string& private_prefix,
                                      const Cancel& cancel, Reading reading = Reading::in_doubt);

// An O_PATH descriptor of a name in a directory.
Result<Fd> open_entry(int directory, const std::string& name);

}  // namespace overlayfs
