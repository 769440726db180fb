#include "change_record.h"

#include <sys/stat.h>

#include <cstring>

namespace overlayfs {
namespace {

constexpr uint32_t kNone = 0xffffffff;
constexpr uint8_t HAS_FROM = 1, HAS_PREVIOUS_SIZE = 2, HAS_LINK_GROUP = 4, HAS_SOURCE_PATH = 8;

// In the machine's byte order, which is JavaScript's typed arrays' too.
struct Packed {
  uint64_t size, previous_size, allocated, link_group;
  uint32_t at;  // where its texts begin: path, from, source path, xattr names
  uint32_t path, from, source_path, xattrs;
  uint32_t fields, source_layer;
  uint8_t kind, type, previous_type_and_replaces, has;
};
static_assert(sizeof(Packed) == 64);

}  // namespace

EntryType entry_type(uint16_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return EntryType::file;
    case S_IFDIR:
      return EntryType::directory;
    case S_IFLNK:
      return EntryType::symlink;
    case S_IFBLK:
      return EntryType::block;
    case S_IFCHR:
      return EntryType::character;
    case S_IFIFO:
      return EntryType::fifo;
    case S_IFSOCK:
      return EntryType::socket;
    default:
      return EntryType::none;
  }
}

void ChangeRecords::add(const Change& change) {
  const auto length = [](std::string_view text) { return static_cast<uint32_t>(text.size()); };
  const auto bits = [](EntryType type) { return static_cast<uint8_t>(type); };
  Packed packed{};
  packed.size = change.size;
  packed.previous_size = change.previous_size.value_or(0);
  packed.allocated = change.allocated;
  packed.link_group = change.link_group.value_or(0);
  packed.at = static_cast<uint32_t>(heap_.size());
  packed.path = length(change.path);
  packed.from = change.has_from ? length(change.from) : 0;
  packed.source_path = change.has_source_path ? length(change.source_path) : 0;
  packed.xattrs = length(change.xattrs);
  packed.fields = change.fields;
  packed.source_layer = change.source_layer.value_or(kNone);
  packed.kind = static_cast<uint8_t>(change.kind);
  packed.type = bits(change.type);
  packed.previous_type_and_replaces =
      static_cast<uint8_t>(bits(change.previous_type) << 4 | bits(change.replaces));
  packed.has = static_cast<uint8_t>(
      (change.has_from ? HAS_FROM : 0) | (change.previous_size ? HAS_PREVIOUS_SIZE : 0) |
      (change.link_group ? HAS_LINK_GROUP : 0) | (change.has_source_path ? HAS_SOURCE_PATH : 0));
  fixed_.append(reinterpret_cast<const char*>(&packed), sizeof packed);
  heap_.append(change.path);
  if (change.has_from) heap_.append(change.from);
  if (change.has_source_path) heap_.append(change.source_path);
  heap_.append(change.xattrs);
  ++count_;
  ++kinds[static_cast<size_t>(change.kind)];
}

void ChangeRecords::append(ChangeRecords&& more) {
  const size_t first = fixed_.size();
  fixed_ += more.fixed_;
  for (size_t at = first + offsetof(Packed, at); at < fixed_.size(); at += sizeof(Packed)) {
    uint32_t text;
    std::memcpy(&text, &fixed_[at], sizeof text);
    text += static_cast<uint32_t>(heap_.size());
    std::memcpy(&fixed_[at], &text, sizeof text);
  }
  heap_ += more.heap_;
  count_ += more.count_;
  for (size_t kind = 0; kind < kChangeKinds; ++kind) kinds[kind] += more.kinds[kind];
  for (ChangeError& error : more.errors) errors.push_back(std::move(error));
}

std::string ChangeRecords::pack() const { return fixed_ + heap_; }

}  // namespace overlayfs
