#include "mount_info.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <map>

#include "fd.h"
#include "sys.h"

namespace overlayfs {
namespace {

constexpr uint64_t kStatmountFields =
    abi::STATMOUNT_SB_BASIC | abi::STATMOUNT_MNT_BASIC | abi::STATMOUNT_MNT_ROOT | abi::STATMOUNT_MNT_POINT |
    abi::STATMOUNT_FS_TYPE | abi::STATMOUNT_MNT_OPTS | abi::STATMOUNT_SB_SOURCE;
constexpr uint64_t kStrings = abi::STATMOUNT_MNT_OPTS | abi::STATMOUNT_SB_SOURCE;
constexpr uint64_t SB_RDONLY = 1;

// EPERM from a call that needs no privilege is a seccomp filter that does not know it.
bool is_missing(int error) { return error == ENOSYS || error == EPERM; }

// `complete`: options and source are told. Kernels before 6.11 and 6.13 do not, and no kernel tells an empty
// string.
Result<MountInfo> stat_mount(uint64_t id, std::vector<char>& buffer, bool* complete) {
  while (sys::statmount(id, kStatmountFields, buffer.data(), buffer.size()) != 0) {
    if (errno != EOVERFLOW) return failed("statmount", std::to_string(id));
    buffer.resize(buffer.size() * 2);
  }
  const auto& sm = *reinterpret_cast<const abi::Statmount*>(buffer.data());
  const auto text = [&](uint64_t bit, uint32_t offset) {
    return (sm.mask & bit) != 0 ? std::string(sm.str + offset) : "";
  };
  *complete = (sm.mask & kStrings) == kStrings;
  return MountInfo{.id = sm.mnt_id,
                   .parent_id = sm.mnt_parent_id,
                   .old_id = sm.mnt_id_old,
                   .unique_ids = true,
                   .device = uint64_t{sm.sb_dev_major} << 32 | sm.sb_dev_minor,
                   .root = text(abi::STATMOUNT_MNT_ROOT, sm.mnt_root),
                   .point = text(abi::STATMOUNT_MNT_POINT, sm.mnt_point),
                   .type = text(abi::STATMOUNT_FS_TYPE, sm.fs_type),
                   .source = text(abi::STATMOUNT_SB_SOURCE, sm.sb_source),
                   .options = text(abi::STATMOUNT_MNT_OPTS, sm.mnt_opts),
                   .attributes = sm.mnt_attr,
                   .superblock_readonly = (sm.sb_flags & SB_RDONLY) != 0,
                   .propagation = sm.mnt_propagation};
}

std::string unescape_octal(std::string_view text) {
  const auto digit = [](char c) { return c >= '0' && c <= '7'; };
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && digit(text[i + 1]) && digit(text[i + 2]) &&
        digit(text[i + 3])) {
      plain += static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 | (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// Cuts what stands before the first `separator` off the front of `rest`.
std::string_view cut(std::string_view& rest, char separator) {
  const size_t end = std::min(rest.find(separator), rest.size());
  const std::string_view word = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return word;
}

uint64_t number(std::string_view digits) {
  uint64_t value = 0;
  for (const char digit : digits) {
    if (digit < '0' || digit > '9') break;
    value = value * 10 + static_cast<uint64_t>(digit - '0');
  }
  return value;
}

uint64_t mount_attributes(std::string_view words) {
  static constexpr std::pair<std::string_view, uint64_t> kNames[] = {
      {"ro", abi::MOUNT_ATTR_RDONLY},       {"nosuid", abi::MOUNT_ATTR_NOSUID},
      {"nodev", abi::MOUNT_ATTR_NODEV},     {"noexec", abi::MOUNT_ATTR_NOEXEC},
      {"noatime", abi::MOUNT_ATTR_NOATIME}, {"nodiratime", abi::MOUNT_ATTR_NODIRATIME},
      {"idmapped", abi::MOUNT_ATTR_IDMAP},
  };
  uint64_t attributes = 0;
  bool relatime = false;
  while (!words.empty()) {
    const std::string_view word = cut(words, ',');
    relatime |= word == "relatime";
    for (const auto& [name, attribute] : kNames) attributes |= word == name ? attribute : 0;
  }
  // Strict access times are shown by the absence of relatime and noatime.
  if (!relatime && (attributes & abi::MOUNT_ATTR_NOATIME) == 0) attributes |= abi::MOUNT_ATTR_STRICTATIME;
  return attributes;
}

// 36 35 98:0 /root /point rw,noatime shared:1 master:2 - overlay source rw,lowerdir=…
bool parse_line(std::string_view line, MountInfo* info) {
  info->old_id = info->id = number(cut(line, ' '));
  info->parent_id = number(cut(line, ' '));
  std::string_view device = cut(line, ' ');
  const uint64_t major = number(cut(device, ':'));
  info->device = major << 32 | number(device);
  info->root = unescape_octal(cut(line, ' '));
  info->point = unescape_octal(cut(line, ' '));
  info->attributes = mount_attributes(cut(line, ' '));
  for (std::string_view word = cut(line, ' '); word != "-"; word = cut(line, ' ')) {
    if (line.empty()) return false;
    if (word.starts_with("shared:")) info->propagation |= abi::MS_SHARED;
    if (word.starts_with("master:")) info->propagation |= abi::MS_SLAVE;
    if (word == "unbindable") info->propagation |= abi::MS_UNBINDABLE;
  }
  if (info->propagation == 0) info->propagation = abi::MS_PRIVATE;
  info->type = unescape_octal(cut(line, ' '));
  info->source = unescape_octal(cut(line, ' '));
  info->superblock_readonly = cut(line, ',') == "ro";
  info->options = line;
  return info->id != 0;
}

Result<std::string> read_mountinfo(int directory = AT_FDCWD, const char* path = "/proc/self/mountinfo") {
  const Fd file(sys::openat(directory, path, O_RDONLY));
  if (!file) return failed("openat", {}, path);
  std::string text;
  std::array<char, 65536> chunk;
  ssize_t size;
  while ((size = ::read(file.get(), chunk.data(), chunk.size())) > 0)
    text.append(chunk.data(), static_cast<size_t>(size));
  if (size < 0) return failed("read", {}, path);
  return text;
}

Result<std::vector<uint64_t>> mount_ids() {
  std::vector<uint64_t> ids;
  std::array<uint64_t, 1024> page;
  for (uint64_t after = 0;; after = ids.back()) {
    const ssize_t count = sys::listmount(abi::LSMT_ROOT, after, page.data(), page.size());
    if (count < 0) return failed("listmount");
    ids.insert(ids.end(), page.begin(), page.begin() + count);
    if (static_cast<size_t>(count) < page.size()) return ids;
  }
}

Result<std::vector<MountInfo>> from_proc(std::string_view type) {
  std::vector<MountInfo> mounts = parse_mountinfo(TRY(read_mountinfo()));
  std::erase_if(mounts, [&](const MountInfo& mount) { return mount.type != type; });
  return mounts;
}

}  // namespace

std::vector<MountInfo> parse_mountinfo(std::string_view text) {
  std::vector<MountInfo> mounts;
  while (!text.empty()) {
    MountInfo info;
    if (parse_line(cut(text, '\n'), &info)) mounts.push_back(std::move(info));
  }
  return mounts;
}

Result<std::vector<MountInfo>> read_mount_table(int process_directory) {
  return parse_mountinfo(TRY(read_mountinfo(process_directory, "mountinfo")));
}

Result<MountInfo> mount_info(uint64_t id, bool unique_id, uint64_t reusable_id) {
  if (unique_id) {
    std::vector<char> buffer(4096);
    bool complete = true;
    auto info = stat_mount(id, buffer, &complete);
    if (info || !is_missing(info.error().err)) return info;
  }
  for (MountInfo& info : parse_mountinfo(TRY(read_mountinfo()))) {
    if (info.old_id == (unique_id ? reusable_id : id)) return std::move(info);
  }
  return SysError{ENOENT, "mountinfo", std::to_string(id), {}, {}};
}

bool is_shared_mount(uint64_t unique_id) {
  abi::Statmount sm;
  return sys::statmount(unique_id, abi::STATMOUNT_MNT_BASIC, &sm, sizeof sm) == 0 &&
         (sm.mnt_propagation & abi::MS_SHARED) != 0;
}

Result<std::vector<std::string>> mounts_below(const std::vector<std::string>& directories) {
  std::vector<std::string> points;
  for (MountInfo& mount : parse_mountinfo(TRY(read_mountinfo()))) {
    const bool below = std::any_of(directories.begin(), directories.end(), [&](const std::string& directory) {
      return mount.point.starts_with(directory == "/" ? "/" : directory + "/") && mount.point != "/";
    });
    if (below) points.push_back(std::move(mount.point));
  }
  return points;
}

Result<std::vector<MountInfo>> list_mounts(std::string_view type, bool from_mountinfo) {
  if (from_mountinfo) return from_proc(type);
  auto ids = mount_ids();
  if (!ids) return is_missing(ids.error().err) ? from_proc(type) : std::move(ids).error();

  std::vector<MountInfo> mounts;
  std::vector<char> buffer(16384);
  bool all_complete = true;
  for (const uint64_t id : *ids) {
    bool complete = false;
    auto info = stat_mount(id, buffer, &complete);
    if (!info) {
      if (is_missing(info.error().err)) return from_proc(type);
      continue;  // unmounted since it was listed
    }
    if (info->type != type) continue;
    all_complete &= complete;
    mounts.push_back(*std::move(info));
  }
  if (all_complete) return mounts;

  // Kernels 6.8 to 6.12 tell ids but not every string: take those from mountinfo.
  std::map<uint64_t, MountInfo> shown;
  for (MountInfo& info : TRY(from_proc(type))) shown.emplace(info.old_id, std::move(info));
  for (MountInfo& mount : mounts) {
    if (const auto found = shown.find(mount.old_id); found != shown.end()) {
      mount.source = found->second.source;
      mount.options = found->second.options;
    }
  }
  return mounts;
}

}  // namespace overlayfs
