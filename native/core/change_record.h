// Changes as they go to JavaScript: packed, many in one buffer. lib/changes/decode.ts reads the same layout.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "merged_lookup.h"
#include "result.h"

namespace overlayfs {

enum class ChangeKind : uint8_t { added, modified, metadata, deleted, replaced, renamed };
constexpr size_t kChangeKinds = 6;

enum class EntryType : uint8_t { file, directory, symlink, block, character, fifo, socket, none };
EntryType entry_type(uint16_t mode);

// What differs, as bits.
namespace change_field {
constexpr uint32_t MODE = 1, UID = 2, GID = 4, MTIME = 8, SIZE = 16, CONTENT = 32, TARGET = 64, RDEV = 128;
}

// One change, before it is packed. Texts point to what the caller holds.
struct Change {
  ChangeKind kind = ChangeKind::added;
  EntryType type = EntryType::none, previous_type = EntryType::none, replaces = EntryType::none;
  uint32_t fields = 0;
  std::string_view xattrs;  // names that differ, each with its NUL
  uint64_t size = 0, allocated = 0;
  std::optional<uint64_t> previous_size, link_group;
  std::string_view path, from;  // `from` may be empty: the same as `path`, or none
  bool has_from = false;
  // Where the data lies: the layer's number, 0 the upper; the path there, where it is another than `path`.
  std::optional<uint32_t> source_layer;
  std::string_view source_path;
  bool has_source_path = false;
};

// Why something could not be looked at.
struct ChangeError {
  std::string path;  // of the after-view
  SysError error;
  std::optional<Refused> refused;  // the kernel's own refusal, rather than a failed call
  const char* artefact = "";       // what stands there that this stack does not stand for
};

// Changes that follow each other.
class ChangeRecords {
 public:
  void add(const Change& change);
  void append(ChangeRecords&& more);

  size_t count() const { return count_; }
  size_t bytes() const { return fixed_.size() + heap_.size() + errors.size() * sizeof(ChangeError); }
  bool empty() const { return count_ == 0 && errors.empty(); }
  // The fixed parts, then the texts.
  std::string pack() const;

  std::array<uint32_t, kChangeKinds> kinds{};
  std::vector<ChangeError> errors;

 private:
  uint32_t count_ = 0;
  std::string fixed_, heap_;
};

}  // namespace overlayfs
