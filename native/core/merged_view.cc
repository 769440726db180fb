#include "merged_view.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <climits>
#include <unordered_map>

#include "beneath.h"
#include "directory.h"
#include "proc.h"
#include "status.h"
#include "sys.h"

namespace overlayfs {
namespace {

constexpr const char* kLookup = "lookup";  // what failed was no system call of ours

// Reading is not to be seen in the layer; O_NOATIME is the owner's, and root's. So does the kernel.
Result<Fd> open_to_list(const LayerDirectory& directory) {
  Fd readable(sys::openat(directory.fd->get(), ".", O_RDONLY | O_DIRECTORY | O_NOATIME));
  if (!readable && errno == EPERM) return reopen_readable(directory.fd->get(), directory.path);
  if (!readable) return failed("openat", "\".\", O_RDONLY | O_DIRECTORY | O_NOATIME", directory.path);
  return readable;
}

unsigned char type_of(const abi::Statx& status) { return IFTODT(status.mode); }

// The error of a refused or missing entry; none: it exists.
template <class T>
std::optional<Viewed<T>> missing(const MergedEntry& entry, const std::string& path) {
  if (entry.refused) return Viewed<T>(SysError{entry.refused->err, kLookup, {}, path, {}}, entry.refused);
  const int error = entry.name_too_long ? ENAMETOOLONG : ENOENT;
  if (!entry.exists()) return Viewed<T>(SysError{error, kLookup, {}, path, {}});
  return std::nullopt;
}

// The value of a Viewed, or an early return of its error.
#define VIEW(expression)                                                               \
  ({                                                                                   \
    auto viewed_ = (expression);                                                       \
    if (!viewed_.value) return {std::move(viewed_.error), std::move(viewed_.refused)}; \
    *std::move(viewed_.value);                                                         \
  })

}  // namespace

Viewed<MergedEntry> MergedView::find(const std::string& path) const {
  MergedDirectory directory = layers_.root();
  for (size_t at = 0;;) {
    const size_t end = std::min(path.find('/', at), path.size());
    MergedEntry entry = TRY(layers_.lookup(directory, path.substr(at, end - at)));
    if (auto none = missing<MergedEntry>(entry, path)) return *std::move(none);
    if (end == path.size()) return entry;
    if (!entry.is_directory()) return SysError{ENOTDIR, kLookup, {}, path, {}};
    directory = entry.directory();
    at = end + 1;
  }
}

Viewed<MergedDirectory> MergedView::find_directory(const std::string& path) const {
  if (path.empty()) return layers_.root();
  const MergedEntry entry = VIEW(find(path));
  if (!entry.is_directory()) return SysError{ENOTDIR, kLookup, {}, path, {}};
  return entry.directory();
}

Result<std::vector<ListedName>> MergedView::list(const MergedDirectory& directory, bool with_status) const {
  std::vector<ListedName> listed;
  std::unordered_map<std::string, size_t> first_part;  // which of the directories has the name
  auto stream = std::make_unique<DirectoryStream>();
  for (size_t part = 0; part < directory.size(); ++part) {
    const Fd readable = TRY(open_to_list(directory[part]));
    stream->start(readable.get());
    while (const char* name = stream->next()) {
      if (first_part.try_emplace(name, part).second) listed.push_back({name, stream->type(), 0, {}});
    }
    if (stream->error() != 0) return SysError{stream->error(), "getdents64", {}, directory[part].path, {}};
  }
  // What may be a whiteout, and what else is to be known of each, is looked up; that it is gone again is one
  // answer.
  const auto gone = [&](ListedName& entry) -> Result<bool> {
    const bool whiteout = entry.type == DT_CHR || entry.type == DT_REG || entry.type == DT_UNKNOWN;
    if (with_status) {
      const MergedEntry found = TRY(layers_.lookup(directory, entry.name));
      if (!found.refused && !found.exists()) return true;
      if (found.refused)
        entry.err = found.refused->err;
      else
        entry.status = found.entry().status;
      if (!found.refused) entry.type = type_of(entry.status);
    } else if (whiteout) {
      const auto status = TRY(layers_.shown_status(directory[first_part[entry.name]], entry.name));
      if (!status) return true;
      entry.type = type_of(*status);
    }
    return false;
  };
  std::vector<ListedName> shown;
  shown.reserve(listed.size());
  for (ListedName& entry : listed) {
    if (!TRY(gone(entry))) shown.push_back(std::move(entry));
  }
  std::sort(shown.begin(), shown.end(),
            [](const ListedName& a, const ListedName& b) { return a.name < b.name; });
  return shown;
}

Viewed<std::vector<ListedName>> MergedView::list(const std::string& path, bool with_status) const {
  const MergedDirectory directory = VIEW(find_directory(path));
  return TRY(list(directory, with_status));
}

Viewed<abi::Statx> MergedView::status(const std::string& path) const {
  if (path.empty()) return *TRY(status_of(layers_.root().front().fd->get(), {}));
  return VIEW(find(path)).entry().status;
}

Viewed<Fd> MergedView::open(const std::string& path) const {
  if (path.empty()) return SysError{EISDIR, "open", {}, path, {}};
  const MergedEntry entry = VIEW(find(path));
  const uint16_t mode = entry.entry().status.mode;
  if (!S_ISREG(mode))
    return SysError{S_ISDIR(mode) ? EISDIR : S_ISLNK(mode) ? ELOOP : EINVAL, "open", {}, path, {}};
  if (entry.data_error != 0) {
    const LayerEntry& waiting = entry.found.back();
    return {SysError{entry.data_error, kLookup, {}, path, {}},
            Refused{Refusal::data_missing, entry.data_error, waiting.layer(), waiting.path()}};
  }
  // Should it have become a FIFO since, opening it does not wait.
  const LayerEntry& data = entry.data();
  return TRY(open_beneath(data.parent.fd->get(), data.name, O_RDONLY | O_NONBLOCK));
}

Viewed<std::string> MergedView::link_target(const std::string& path) const {
  if (path.empty()) return SysError{EINVAL, "readlinkat", {}, path, {}};
  const MergedEntry entry = VIEW(find(path));
  std::array<char, PATH_MAX> target;
  const ssize_t size = sys::readlinkat(entry.entry().parent.fd->get(), entry.entry().name.c_str(),
                                       target.data(), target.size());
  if (size < 0) return failed("readlinkat", {}, path);
  return std::string(target.data(), static_cast<size_t>(size));
}

Viewed<std::vector<Xattr>> MergedView::xattrs(const std::string& path) const {
  std::vector<Xattr> all;
  if (path.empty()) {
    all = TRY(xattrs_of(layers_.root().front().fd->get()));
  } else {
    const MergedEntry entry = VIEW(find(path));
    all = TRY(xattrs_beneath(entry.entry().parent.fd->get(), entry.entry().name));
  }
  const std::string own = layers_.xattr(""), escaped = layers_.xattr("overlay.");
  std::vector<Xattr> shown;
  for (auto& [name, value] : all) {
    if (name.starts_with(escaped))
      name.replace(0, escaped.size(), own);
    else if (name.starts_with(own))
      continue;
    shown.emplace_back(std::move(name), std::move(value));
  }
  return shown;
}

}  // namespace overlayfs
