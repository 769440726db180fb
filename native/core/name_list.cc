#include "name_list.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "directory.h"
#include "sys.h"

namespace overlayfs {
namespace {

struct Dirent64 {
  uint64_t ino;
  int64_t off;
  uint16_t reclen;
  uint8_t type;
  char name[];
};

constexpr size_t kDirentBuffer = 64 << 10;
constexpr size_t kAtOnce = 16 << 10;  // names that are sorted in about a millisecond
constexpr unsigned kDeepestSort = 64;

bool is_directory(int directory, const Dirent64& entry) {
  if (entry.type != DT_UNKNOWN) return entry.type == DT_DIR;
  struct stat st {};
  return sys::fstatat(directory, entry.name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

uint64_t key_of(std::string_view text) {
  uint64_t key = 0;
  std::memcpy(&key, text.data(), std::min(text.size(), sizeof key));
  return std::endian::native == std::endian::little ? __builtin_bswap64(key) : key;
}

}  // namespace

void NameList::add(std::string_view name, bool directory) {
  const auto size = static_cast<uint16_t>(name.size() + (directory ? 1 : 0));
  names_.append(reinterpret_cast<const char*>(&size), sizeof size).append(name);
  if (directory) names_ += '/';
  count_ += directory ? 2 : 1;
}

Result<void> NameList::read(int directory, const OrderedWork::Pieces& work, bool all_below) {
  // One for each thread: a fresh one would cost more than reading a small directory.
  thread_local std::array<char, kDirentBuffer> buffer;
  // It may have been read before.
  if (sys::lseek(directory, 0, SEEK_SET) != 0) return failed("lseek");
  while (!work.cancelled()) {
    const ssize_t size = sys::getdents64(directory, buffer.data(), buffer.size());
    if (size < 0) return failed("getdents64");
    if (size == 0) return {};
    for (ssize_t at = 0; at < size;) {
      const auto& entry = *reinterpret_cast<const Dirent64*>(buffer.data() + at);
      at += entry.reclen;
      const std::string_view name(entry.name);
      if (name != "." && name != "..") add(name, all_below || is_directory(directory, entry));
    }
  }
  return {};
}

Result<void> NameList::read(const MergedDirectory& lowers, const OrderedWork::Pieces& work) {
  for (const LayerDirectory& lower : lowers) {
    const Fd readable = TRY(reopen_readable(lower.fd->get(), lower.path));
    TRY(read(readable.get(), work));
  }
  return {};
}

// A name that is a directory in one of the places is told as such.
bool NameList::less(const Sorted& a, const Sorted& b) const {
  if (a.key != b.key) return a.key < b.key;
  const int order = text(a).compare(text(b));
  return order != 0 ? order < 0 : a.directory && !b.directory;
}

// std::sort() of a million names cannot be stopped for half a second: they are parted until they are few.
void NameList::sort_between(size_t from, size_t to, unsigned depth, const OrderedWork::Pieces& work) {
  const auto order = [this](const Sorted& a, const Sorted& b) { return less(a, b); };
  const auto at = [this](size_t index) { return items_.begin() + static_cast<ptrdiff_t>(index); };
  for (; to - from > kAtOnce && depth > 0; --depth) {
    if (work.cancelled()) return;
    std::array<Sorted, 3> some{items_[from], items_[from + (to - from) / 2], items_[to - 1]};
    std::sort(some.begin(), some.end(), order);
    const auto middle =
        std::partition(at(from), at(to), [&](const Sorted& item) { return less(item, some[1]); });
    const auto end = static_cast<size_t>(middle - items_.begin());
    sort_between(from, end, depth - 1, work);
    from = end;
  }
  if (!work.cancelled()) std::sort(at(from), at(to), order);
}

void NameList::sort(const OrderedWork::Pieces& work) {
  items_.reserve(count_);
  std::string_view common;
  for (uint32_t at = 0; at < names_.size();) {
    if (items_.size() % kAtOnce == 0 && work.cancelled()) break;
    uint16_t size;
    std::memcpy(&size, &names_[at], sizeof size);
    at += sizeof size;
    const bool directory = names_[at + size - 1] == '/';
    const auto bare = static_cast<uint16_t>(size - (directory ? 1 : 0));
    items_.push_back({0, at, bare, false, directory});
    if (directory) items_.push_back({0, at, size, true, true});
    const std::string_view name(&names_[at], bare);
    if (at == sizeof size) common = name;
    const auto end = std::mismatch(common.begin(), common.end(), name.begin(), name.end());
    common = common.substr(0, static_cast<size_t>(end.first - common.begin()));
    at += size;
  }
  for (Sorted& item : items_) item.key = key_of(text(item).substr(common.size()));
  sort_between(0, items_.size(), kDeepestSort, work);
  const auto same = [this](const Sorted& a, const Sorted& b) { return text(a) == text(b); };
  items_.erase(std::unique(items_.begin(), items_.end(), same), items_.end());
}

NameList::Item NameList::operator[](size_t at) const {
  const Sorted& item = items_[at];
  return {text(item).substr(0, item.size - (item.subtree ? 1 : 0)), item.subtree, item.directory};
}

}  // namespace overlayfs
