#include "entry_compare.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "fd.h"
#include "overlay_xattr.h"
#include "sys.h"
#include "xattr_at.h"

namespace overlayfs {
namespace {

struct ShownXattr {
  std::string_view shown_prefix, rest;  // together: as the view shows it
  std::string_view stored;
  std::string shown() const { return std::string(shown_prefix).append(rest); }
};

// `overlay_prefix` with `overlay.` once more is what the view shows without it.
std::vector<ShownXattr> shown_xattrs(std::string_view names, std::string_view overlay_prefix) {
  std::vector<ShownXattr> shown;
  each_xattr_name(names, [&](std::string_view name) {
    if (!name.starts_with(overlay_prefix)) {
      shown.push_back({{}, name, name});
    } else if (name.substr(overlay_prefix.size()).starts_with(kEscape)) {
      shown.push_back({overlay_prefix, name.substr(overlay_prefix.size() + kEscape.size()), name});
    }
  });
  return shown;
}

constexpr size_t kBlock = 128 << 10;
using Block = std::array<char, kBlock>;

Result<Fd> open_file(const EntryPlace& entry) {
  Fd opened(sys::openat(entry.directory, entry.name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  if (!opened) return failed("openat", "O_RDONLY | O_NOFOLLOW | O_NONBLOCK", entry.name);
  return opened;
}

Result<size_t> read_block(int fd, Block& block, uint64_t at, const std::string& name) {
  size_t filled = 0;
  while (filled < block.size()) {
    const ssize_t size =
        sys::pread(fd, block.data() + filled, block.size() - filled, static_cast<off_t>(at + filled));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return failed("pread", {}, name);
    if (size == 0) break;
    filled += static_cast<size_t>(size);
  }
  return filled;
}

Result<std::string> read_target(const EntryPlace& entry) {
  std::string target(PATH_MAX, '\0');
  const ssize_t size = sys::readlinkat(entry.directory, entry.name.c_str(), target.data(), target.size());
  if (size < 0) return failed("readlinkat", {}, entry.name);
  target.resize(static_cast<size_t>(size));
  return target;
}

}  // namespace

bool is_ambiguous(const abi::Statx& status) {
  return status.mtime.nsec == 0 || status.ctime.sec - status.mtime.sec <= 1;
}

uint32_t compare_status(const abi::Statx& after, const abi::Statx& before) {
  uint32_t fields = 0;
  const bool sized = S_ISREG(after.mode) || S_ISLNK(after.mode);
  const bool device = S_ISCHR(after.mode) || S_ISBLK(after.mode);
  if (after.mode != before.mode) fields |= change_field::MODE;
  if (after.uid != before.uid) fields |= change_field::UID;
  if (after.gid != before.gid) fields |= change_field::GID;
  if (after.mtime.sec != before.mtime.sec || after.mtime.nsec != before.mtime.nsec)
    fields |= change_field::MTIME;
  if (sized && after.size != before.size) fields |= change_field::SIZE;
  if (device && (after.rdev_major != before.rdev_major || after.rdev_minor != before.rdev_minor))
    fields |= change_field::RDEV;
  return fields;
}

Result<std::string> compare_xattrs(const EntryPlace& after, std::string_view names, const EntryPlace& before,
                                   const std::string& overlay_prefix) {
  thread_local std::string before_names;
  TRY(list_xattr_names(before.directory, before.name, before_names));
  if (names.empty() && before_names.empty()) return std::string();
  const auto now = shown_xattrs(names, overlay_prefix), then = shown_xattrs(before_names, overlay_prefix);
  std::vector<std::string> differ;
  for (const ShownXattr& one : now) {
    const auto old = std::find_if(then.begin(), then.end(), [&](const ShownXattr& other) {
      return other.shown_prefix == one.shown_prefix && other.rest == one.rest;
    });
    bool same = old != then.end();
    if (same) {
      const auto value = TRY(xattr_value_at(after.directory, after.name, std::string(one.stored)));
      const auto before_value = TRY(xattr_value_at(before.directory, before.name, std::string(old->stored)));
      same = value == before_value;
    }
    if (!same) differ.push_back(one.shown());
  }
  for (const ShownXattr& old : then) {
    const bool kept = std::any_of(now.begin(), now.end(), [&](const ShownXattr& other) {
      return other.shown_prefix == old.shown_prefix && other.rest == old.rest;
    });
    if (!kept) differ.push_back(old.shown());
  }
  std::sort(differ.begin(), differ.end());
  std::string joined;
  for (const std::string& name : differ) joined.append(name).push_back('\0');
  return joined;
}

Result<bool> same_target(const EntryPlace& after, const EntryPlace& before) {
  return TRY(read_target(after)) == TRY(read_target(before));
}

Result<bool> same_content(const EntryPlace& after, const EntryPlace& before,
                          const std::atomic<bool>& cancelled) {
  if (after.status.size != before.status.size) return false;
  if (after.status.size == 0) return true;
  const Fd one = TRY(open_file(after)), other = TRY(open_file(before));
  thread_local const auto blocks = std::make_unique<std::pair<Block, Block>>();
  for (uint64_t at = 0; at < after.status.size; at += kBlock) {
    if (cancelled.load(std::memory_order_relaxed)) return SysError{ECANCELED, "pread", {}, after.name, {}};
    const size_t size = TRY(read_block(one.get(), blocks->first, at, after.name));
    const size_t other_size = TRY(read_block(other.get(), blocks->second, at, before.name));
    if (size != other_size) return false;
    if (std::memcmp(blocks->first.data(), blocks->second.data(), size) != 0) return false;
    if (size < kBlock) break;
  }
  return true;
}

}  // namespace overlayfs
