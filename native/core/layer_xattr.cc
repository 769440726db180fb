#include "layer_xattr.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <memory>

#include "directory.h"
#include "proc.h"
#include "sys.h"
#include "tree_place.h"
#include "xattr.h"

namespace overlayfs {
namespace {

constexpr char kStripped = 1;

template <class Number>
void append_number(std::string& packed, Number number) {
  for (size_t i = 0; i < sizeof(Number); ++i) packed += static_cast<char>(number >> (8 * i));
}

// The overlay's own attributes go first: an escaped one may take the name of one of them.
Result<void> strip_file(int fd, const StripOrder& order, Stripped& result) {
  const std::string path = fd_name(fd), &prefix = order.xattr_prefix;
  std::vector<Xattr> escaped;
  for (Xattr& xattr : TRY(xattrs_of(fd, prefix))) {
    const std::string& name = xattr.first;
    if (name.compare(prefix.size(), kEscape.size(), kEscape) == 0) {
      escaped.push_back(std::move(xattr));
      continue;
    }
    if (sys::removexattr(path.c_str(), name.c_str()) != 0) return failed("removexattr", name);
    ++result.removed;
  }
  if (!order.unescape) return {};
  for (const auto& [name, value] : escaped) {
    const std::string shown = prefix + name.substr(prefix.size() + kEscape.size());
    if (sys::setxattr(path.c_str(), shown.c_str(), value.data(), value.size()) != 0)
      return failed("setxattr", shown);
    if (sys::removexattr(path.c_str(), name.c_str()) != 0) return failed("removexattr", name);
    ++result.unescaped;
  }
  return {};
}

bool is_directory(int fd) {
  struct stat st {};
  return sys::fstatat(fd, "", &st, AT_EMPTY_PATH) == 0 && S_ISDIR(st.st_mode);
}

Result<bool> strip_entry(int directory, const char* name, const StripOrder& order, Stripped& result) {
  const Fd entry = TRY(open_beneath(directory, name, O_PATH));
  TRY(strip_file(entry.get(), order, result));
  return is_directory(entry.get());
}

// Directory by directory: as deep as a tree may be.
std::optional<BatchError> strip_below(int layer, const std::string& top, const StripOrder& order,
                                      const Cancel& cancel, Stripped& result) {
  const auto entries = std::make_unique<DirectoryStream>();
  const auto at = [](const TreePlacePtr& directory, const std::string& name, SysError error) {
    BatchError failure(std::move(error));
    failure.path = path_in_tree(directory.get(), name);
    return failure;
  };
  const auto open_top = [](int root, const std::string& path, int flags) {
    return open_beneath(root, path, flags);
  };
  TreePlaces places(layer, O_RDONLY | O_DIRECTORY, open_top);
  std::vector<TreePlacePtr> waiting = {std::make_shared<TreePlace>(nullptr, top)};
  while (!waiting.empty()) {
    const TreePlacePtr place = std::move(waiting.back());
    waiting.pop_back();
    auto directory = places.open(*place);
    if (!directory) return at(place, {}, std::move(directory).error());
    entries->start((*directory)->get());
    while (const char* name = entries->next()) {
      if (cancelled(cancel)) return at(place, name, {ECANCELED, "abort", {}, {}, {}});
      auto is_directory = strip_entry((*directory)->get(), name, order, result);
      if (!is_directory) return at(place, name, std::move(is_directory).error());
      if (*is_directory) waiting.push_back(std::make_shared<TreePlace>(place, name));
    }
    if (entries->error() != 0) return at(place, {}, {entries->error(), "getdents64", {}, {}, {}});
  }
  return {};
}

Result<bool> pack_all(std::string& packed, size_t path, int fd, const std::string& prefix) {
  for (const auto& [name, value] : TRY(xattrs_of(fd, prefix)))
    pack_overlay_xattr(packed, path, std::string_view(name).substr(prefix.size()), value);
  return true;
}

// The same without an allocation for each name and value; false, with nothing packed, where one does not fit.
Result<bool> pack_short(std::string& packed, size_t path, int fd, const std::string& prefix) {
  const std::string file = fd_name(fd);
  const size_t before = packed.size();
  std::array<char, 1024> names, value;
  const ssize_t length = sys::listxattr(file.c_str(), names.data(), names.size());
  if (length < 0) return false;
  for (const char* name = names.data(); name < names.data() + length; name += std::strlen(name) + 1) {
    if (!std::string_view(name).starts_with(prefix)) continue;
    const ssize_t size = sys::getxattr(file.c_str(), name, value.data(), value.size());
    if (size >= 0) {
      pack_overlay_xattr(packed, path, name + prefix.size(), {value.data(), static_cast<size_t>(size)});
    } else if (errno != ENODATA) {
      packed.resize(before);
      return false;
    }
  }
  return true;
}

}  // namespace

void pack_overlay_xattr(std::string& packed, size_t path, std::string_view name, std::string_view value) {
  const OverlayXattr decoded = decode_overlay_xattr(name, value);
  const auto* malformed = std::get_if<Malformed>(&decoded);
  const std::string_view why = malformed == nullptr ? "" : malformed->why;
  append_number(packed, static_cast<uint32_t>(path));
  append_number(packed, static_cast<uint8_t>(decoded.index()));
  append_number(packed, static_cast<uint8_t>(why.size()));
  append_number(packed, static_cast<uint16_t>(name.size()));
  append_number(packed, static_cast<uint32_t>(value.size()));
  packed.append(name).append(value).append(why);
}

OverlayXattrs read_overlay_xattrs(int layer, const std::vector<std::string>& paths,
                                  const std::string& xattr_prefix, const Cancel& cancel) {
  OverlayXattrs result;
  result.batch = at_each_path(layer, paths, cancel, 0, [&](const Fd& fd, size_t index) -> Done {
    auto packed = pack_short(result.packed, index, fd.get(), xattr_prefix);
    if (packed && !*packed) packed = pack_all(result.packed, index, fd.get(), xattr_prefix);
    if (!packed) return BatchError(std::move(packed).error());
    return kStripped;
  });
  return result;
}

Batch write_overlay_xattrs(int layer, const std::vector<std::string>& paths,
                           const std::vector<NamedValue>& values, const std::string& xattr_prefix,
                           const Cancel& cancel) {
  for (size_t index = 0; index < values.size(); ++index) {
    const auto decoded = decode_overlay_xattr(values[index].name, values[index].value);
    const auto* malformed = std::get_if<Malformed>(&decoded);
    if (malformed == nullptr) continue;
    BatchError failure({EINVAL, "setxattr", malformed->why, {}, {}}, BatchRefusal::malformed);
    failure.index = index;
    return {std::string(paths.size(), '\0'), std::move(failure)};
  }
  std::string whole;
  return at_each_path(layer, paths, cancel, 0, [&](const Fd& fd, size_t index) -> Done {
    const auto& [name, value] = values[index];
    whole.assign(xattr_prefix).append(name);
    if (sys::setxattr(fd_name(fd.get()).c_str(), whole.c_str(), value.data(), value.size()) == 0)
      return kStripped;
    const auto why = errno == EOPNOTSUPP ? BatchRefusal::without_xattrs : BatchRefusal::none;
    return BatchError(failed("setxattr", whole), why);
  });
}

Stripped strip_overlay_xattrs(int layer, const StripOrder& order, const Cancel& cancel) {
  Stripped result;
  result.batch = at_each_path(layer, order.paths, cancel, 0, [&](const Fd& fd, size_t index) -> Done {
    auto stripped = strip_file(fd.get(), order, result);
    if (!stripped) return BatchError(std::move(stripped).error());
    if (!order.recursive || !is_directory(fd.get())) return kStripped;
    if (auto failure = strip_below(layer, order.paths[index], order, cancel, result))
      return *std::move(failure);
    return kStripped;
  });
  return result;
}

}  // namespace overlayfs
