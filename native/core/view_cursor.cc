#include "view_cursor.h"

#include "directory.h"
#include "proc.h"

namespace overlayfs {

SysError refusal_error(const Refused& refused, const std::string& path) {
  return {refused.err, "lookup", refused.path, path, {}};
}

Result<MergedEntry> ViewCursor::lookup_in(const MergedDirectory& directory, const std::string& name) const {
  return layers_.lookup(directory, name, first_layer_);
}

Result<MergedEntry> ViewCursor::lookup(const std::string& path) {
  size_t at = 0;
  for (size_t depth = 0;; ++depth) {
    const size_t end = path.find('/', at);
    const std::string name = path.substr(at, end - at);
    const MergedDirectory& parent = depth == 0 ? root_ : levels_[depth - 1].directory;
    if (parent.empty()) return MergedEntry{};
    if (end == std::string::npos) {
      MergedEntry entry = TRY(lookup_in(parent, name));
      if (entry.refused) return refusal_error(*entry.refused, path);
      return entry;
    }
    if (depth == levels_.size() || levels_[depth].name != name) {
      MergedEntry entry = TRY(lookup_in(parent, name));
      if (entry.refused) return refusal_error(*entry.refused, path.substr(0, end));
      MergedDirectory directory = entry.exists() ? entry.directory() : MergedDirectory();
      levels_.resize(depth);
      levels_.push_back({name, std::move(directory)});
    }
    at = end + 1;
  }
}

Result<std::set<std::string>> ViewCursor::names_in(const MergedDirectory& directory) {
  std::set<std::string> names;
  for (const LayerDirectory& part : directory) {
    const Fd readable = TRY(reopen_readable(part.fd->get(), part.path));
    DirectoryStream stream;
    stream.start(readable.get());
    while (const char* name = stream.next()) names.insert(name);
    if (stream.error() != 0) return SysError{stream.error(), "getdents64", {}, part.path, {}};
  }
  return names;
}

}  // namespace overlayfs
