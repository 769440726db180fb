// What differs between two entries of the same type: metadata, extended attributes, symbolic links' targets
// and content.
#pragma once

#include <atomic>
#include <string>

#include "change_record.h"
#include "kernel_abi.h"
#include "result.h"

namespace overlayfs {

// A name in an open directory, and what statx(2) said of it.
struct EntryPlace {
  int directory;
  const std::string& name;
  const abi::Statx& status;
};

struct Differences {
  uint32_t fields = 0;  // change_field
  std::string xattrs;   // names as the merged view shows them, sorted, each with its NUL
  bool any() const { return fields != 0 || !xattrs.empty(); }
};

// Equal times of which one cannot know that they mean equal content: without a fraction they may have come
// out of an archive, and what has just been changed may have been written twice in one tick of the clock.
bool is_ambiguous(const abi::Statx& status);

// Everything that statx(2) tells.
uint32_t compare_status(const abi::Statx& after, const abi::Statx& before);

// Those that the merged view shows: the overlay's own are left out, escaped ones have their shown names.
// `names` are those of `after`, as list_xattr_names() gives them.
Result<std::string> compare_xattrs(const EntryPlace& after, std::string_view names, const EntryPlace& before,
                                   const std::string& overlay_prefix);

Result<bool> same_target(const EntryPlace& after, const EntryPlace& before);

// Of two regular files. ECANCELED when `cancelled` says so.
Result<bool> same_content(const EntryPlace& after, const EntryPlace& before,
                          const std::atomic<bool>& cancelled);

}  // namespace overlayfs
