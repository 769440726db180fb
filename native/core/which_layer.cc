#include "which_layer.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "beneath.h"
#include "directory.h"
#include "status.h"
#include "xattr.h"

namespace overlayfs {
namespace {

LayerPlace place_of(const LayerEntry& entry) { return {entry.layer(), entry.path()}; }

// A directory that does not show through, with the reason: all that is in it does not either.
struct HiddenDirectory {
  LayerDirectory directory;
  HiddenPlace::Why why;
  LayerPlace by;
};

class Walk {
 public:
  explicit Walk(const MergedLayers& layers) : layers_(layers), directory_(layers.root()) {}

  Result<WhichLayer> to(const std::string& path) {
    if (path.empty()) {
      for (const LayerDirectory& part : directory_) answer_.merged.push_back({part.layer, part.path});
      answer_.serves = answer_.merged.front();
      answer_.mode = TRY(status_of(directory_.front().fd->get(), {}))->mode;
      return std::move(answer_);
    }
    for (size_t at = 0; at < path.size();) {
      const size_t end = std::min(path.find('/', at), path.size());
      TRY(step(path.substr(at, end - at), end == path.size()));
      at = end + 1;
    }
    return std::move(answer_);
  }

 private:
  Result<void> step(const std::string& name, bool last) {
    answer_.hidden.clear();
    std::vector<HiddenDirectory> hidden;
    for (const HiddenDirectory& above : hidden_)
      TRY(hide(above.directory, name, above.why, above.by, hidden));
    if (answer_.err == 0) {
      const MergedEntry entry = TRY(layers_.lookup(directory_, name));
      TRY(note(entry, last));
      TRY(hide_below(entry, name, hidden));
      directory_ = entry.directory();
    }
    hidden_ = std::move(hidden);
    return {};
  }

  // What the name has come to.
  Result<void> note(const MergedEntry& entry, bool last) {
    for (const LayerEntry& found : entry.found) {
      if (found.opaque == Opaque::yes) way(LayerStep::Kind::opaque, found);
      if (found.form == EntryForm::metacopy) way(LayerStep::Kind::metacopy, found);
      if (found.redirect) way(LayerStep::Kind::redirect, found);
      TRY(look_for_ignored(found));
    }
    if (entry.whiteout)
      way(entry.whiteout->form == EntryForm::whiteout ? LayerStep::Kind::whiteout
                                                      : LayerStep::Kind::xattr_whiteout,
          *entry.whiteout);
    if (entry.index) way(LayerStep::Kind::index, *entry.index);
    answer_.refused = entry.refused;
    if (entry.refused)
      answer_.err = entry.refused->err;
    else if (!entry.exists())
      answer_.err = entry.name_too_long ? ENAMETOOLONG : ENOENT;
    else if (!last && !entry.is_directory())
      answer_.err = ENOTDIR;
    if (answer_.err != 0 || !last) return {};
    answer_.serves = place_of(entry.entry());
    answer_.mode = entry.entry().status.mode;
    answer_.data_err = entry.data_error;
    if (entry.entry().form == EntryForm::metacopy && entry.data_error == 0)
      answer_.data = place_of(entry.data());
    for (const LayerDirectory& part : entry.directory()) answer_.merged.push_back({part.layer, part.path});
    return {};
  }

  void way(LayerStep::Kind kind, const LayerEntry& entry) {
    answer_.way.push_back(
        {kind, place_of(entry), kind == LayerStep::Kind::redirect ? *entry.redirect : std::string()});
  }

  // The parts of the directory that have the name, and do not show through.
  Result<void> hide_below(const MergedEntry& entry, const std::string& name,
                          std::vector<HiddenDirectory>& hidden) {
    using Why = HiddenPlace::Why;
    std::optional<std::pair<Why, LayerPlace>> cover;
    for (const LayerDirectory& part : directory_) {
      const auto shown = std::find_if(entry.found.begin(), entry.found.end(), [&](const LayerEntry& found) {
        return found.layer() == part.layer && found.parent.path == part.path && found.name == name;
      });
      if (shown != entry.found.end()) {
        const Why why = shown->form != EntryForm::directory ? Why::file
                        : shown->opaque == Opaque::yes      ? Why::opaque
                        : shown->redirect                   ? Why::redirect
                                                            : Why::directory;
        cover = {why, place_of(*shown)};
      } else if (entry.whiteout && entry.whiteout->layer() == part.layer &&
                 entry.whiteout->parent.path == part.path && entry.whiteout->name == name) {
        cover = {Why::whiteout, place_of(*entry.whiteout)};
      } else if (cover) {
        const size_t before = answer_.hidden.size();
        TRY(hide(part, name, cover->first, cover->second, hidden));
        const bool file = answer_.hidden.size() > before && !S_ISDIR(answer_.hidden.back().mode);
        if (file && cover->first == Why::directory) cover = {Why::file, answer_.hidden.back().place};
      }
    }
    return {};
  }

  Result<void> hide(const LayerDirectory& directory, const std::string& name, HiddenPlace::Why why,
                    const LayerPlace& by, std::vector<HiddenDirectory>& hidden) {
    const auto status = TRY(status_of(directory.fd->get(), name));
    if (!status) return {};
    const LayerEntry entry{directory, name, EntryForm::other, *status, Opaque::no, {}, {}};
    answer_.hidden.push_back({why, place_of(entry), status->mode, by});
    if (!S_ISDIR(status->mode)) return {};
    Fd fd = TRY(open_beneath(directory.fd->get(), name, O_PATH | O_DIRECTORY));
    hidden.push_back(
        {{directory.layer, std::make_shared<const Fd>(std::move(fd)), entry.path(), false}, why, by});
    return {};
  }

  std::optional<IgnoredXattr::Why> why_ignored(const LayerEntry& entry, const Xattr& xattr) const {
    const auto& [name, value] = xattr;
    const Opaque opaque = read_opaque(value);
    const bool opaque_here = opaque == Opaque::yes || (opaque == Opaque::whiteouts && entry.layer() > 0);
    const bool directory = entry.form == EntryForm::directory;
    if (name.starts_with(layers_.stack().userxattr ? "trusted.overlay." : "user.overlay."))
      return IgnoredXattr::Why::other_namespace;
    if (name.starts_with("user.fuseoverlayfs.")) return IgnoredXattr::Why::fuse_overlayfs;
    if (name == layers_.xattr("opaque") && directory && !opaque_here) return IgnoredXattr::Why::opaque_value;
    if (name == layers_.xattr("nlink") && !layers_.reads_index()) return IgnoredXattr::Why::index_off;
    return std::nullopt;
  }

  Result<void> look_for_ignored(const LayerEntry& entry) {
    for (const Xattr& xattr : TRY(xattrs_beneath(entry.parent.fd->get(), entry.name))) {
      if (const auto why = why_ignored(entry, xattr))
        answer_.ignored.push_back({*why, place_of(entry), xattr.first, xattr.second});
    }
    if (layers_.reads_index() || entry.layer() == 0 || entry.form == EntryForm::directory) return {};
    if (auto name = TRY(layers_.index_name_of(entry)))
      answer_.ignored.push_back({IgnoredXattr::Why::index_off, {kIndexLayer, "index/" + *name}, {}, {}});
    return {};
  }

  const MergedLayers& layers_;
  MergedDirectory directory_;
  std::vector<HiddenDirectory> hidden_;
  WhichLayer answer_;
};

}  // namespace

Result<WhichLayer> which_layer(const MergedLayers& layers, const std::string& path) {
  return Walk(layers).to(path);
}

}  // namespace overlayfs
