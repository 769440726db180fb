#include "merged_lookup.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "beneath.h"
#include "directory.h"
#include "status.h"
#include "sys.h"
#include "xattr.h"
#include "xattr_at.h"

namespace overlayfs {
namespace {

bool is_character_device_zero(const abi::Statx& status) {
  return S_ISCHR(status.mode) && status.rdev_major == 0 && status.rdev_minor == 0;
}

}  // namespace

// struct ovl_lookup_data: what the layers so far have said.
struct MergedLayers::Search {
  std::string name;  // to look for in the next layer: a name, or a path from the root of the overlay
  bool is_directory = false;
  bool metacopy = false;           // a regular file is wanted, for its data
  bool redirected = false;         // some redirect has been met
  bool absolute_redirect = false;  // the last entry had an absolute one
  bool last = false;               // what is said of still lower layers need not be read
  bool stop = false;
  std::optional<LayerEntry> whiteout;
  std::optional<Refused> refused;
  size_t last_layer = 0;
  std::string last_path;

  bool absolute() const { return name.starts_with('/'); }
  void refuse(Refusal why, int err, const LayerDirectory& parent, const std::string& entry) {
    refused = {why, err, parent.layer, parent.path.empty() ? entry : parent.path + '/' + entry};
  }
  // What has been found last says what the kernel will not do.
  void refuse_last(Refusal why, int err) { refused = {why, err, last_layer, last_path}; }
  void found(const LayerEntry& entry) {
    last_layer = entry.layer();
    last_path = entry.path();
  }
};

std::string LayerEntry::path() const { return parent.path.empty() ? name : parent.path + '/' + name; }

const LayerEntry& MergedEntry::data() const {
  if (index && index->form != EntryForm::metacopy) return *index;
  if (lazy_data) return *lazy_data;
  return is_directory() ? found.front() : found.back();
}

MergedDirectory MergedEntry::directory() const {
  MergedDirectory directory;
  for (const LayerEntry& entry : found) {
    if (entry.form != EntryForm::directory) continue;
    directory.push_back({entry.layer(), entry.fd, entry.path(), entry.opaque == Opaque::whiteouts});
  }
  return directory;
}

Result<void> MergedLayers::open_layer(const DirectoryRef& ref, size_t layer) {
  Fd root = TRY(open_directory(ref));
  const DirectoryIdentity identity = TRY(identify(root.get(), ref.shown()));
  traps_.emplace_back(identity.device, identity.inode);
  layers_[layer].root = std::make_shared<const Fd>(std::move(root));
  layers_[layer].device = identity.device;
  return {};
}

// Without file handles in every layer the kernel mounts as if index were off.
Result<void> MergedLayers::open_index() {
  if (!stack_.work) return {};
  work_ = std::make_shared<const Fd>(TRY(open_directory(*stack_.work)));
  const auto trap = [&](const Fd& directory) -> Result<void> {
    const DirectoryIdentity identity = TRY(identify(directory.get(), stack_.work->shown()));
    traps_.emplace_back(identity.device, identity.inode);
    return {};
  };
  TRY(trap(*work_));
  if (auto inner = open_beneath(work_->get(), "work", O_PATH | O_DIRECTORY)) TRY(trap(*inner));
  auto index = open_beneath(work_->get(), "index", O_PATH | O_DIRECTORY);
  if (!index && index.error().err != ENOENT) return std::move(index).error();
  if (index) TRY(trap(*index));
  if (!stack_.upper || (!index && !stack_.index)) return {};
  for (Layer& layer : layers_) {
    if (!file_handle(layer.root->get(), {})) return {};
    layer.uuid = TRY(file_system_uuid(layer.root->get()));
  }
  TRY(learn_uuid());
  index_on_ = stack_.index;
  if (index) index_ = std::make_shared<const Fd>(*std::move(index));
  return {};
}

// Where the file system does not tell its uuid, the upper's root does: with an index the kernel has noted
// there which root lay below it.
Result<void> MergedLayers::learn_uuid() {
  const Layer& top = layers_[1];
  if (top.uuid != Uuid{}) return {};
  const auto origin = TRY(xattr_of(layers_[0].root->get(), xattr("origin")));
  const auto noted = origin ? read_overlay_handle(*origin) : std::nullopt;
  if (!noted) return {};
  const FileHandle handle = TRY(file_handle(top.root->get(), {}));
  if (noted->type != handle.type || noted->bytes != handle.bytes) return {};
  for (Layer& layer : layers_)
    if (layer.device == top.device) layer.uuid = noted->uuid;
  return {};
}

Result<MergedLayers> MergedLayers::open(const LayerStack& stack) {
  MergedLayers open;
  open.stack_ = stack;
  open.lowers_ = stack.lower.size();
  open.layers_.resize(1 + stack.lower.size() + stack.data_only.size());
  size_t layer = 0;
  if (stack.upper) TRY(open.open_layer(*stack.upper, layer));
  for (const DirectoryRef& ref : stack.lower) TRY(open.open_layer(ref, ++layer));
  for (const DirectoryRef& ref : stack.data_only) TRY(open.open_layer(ref, ++layer));
  TRY(open.open_index());
  return open;
}

MergedDirectory MergedLayers::root(size_t first_layer) const {
  MergedDirectory directory;
  for (size_t layer = first_layer; layer <= lowers_; ++layer) {
    if (layers_[layer].root) directory.push_back({layer, layers_[layer].root, {}, false});
  }
  return directory;
}

// ovl_check_follow_redirect()
bool MergedLayers::may_follow(Search& search) const {
  if (search.metacopy && !stack_.metacopy)
    search.refuse_last(Refusal::metacopy_off, EPERM);
  else if (search.redirected && !follows_redirects())
    search.refuse_last(Refusal::redirect_not_followed, EPERM);
  return !search.refused;
}

// ovl_lookup_trap_inode()
bool MergedLayers::is_trap(const abi::Statx& status) const {
  const std::pair key(uint64_t{status.dev_major} << 32 | status.dev_minor, status.ino);
  return std::find(traps_.begin(), traps_.end(), key) != traps_.end();
}

// ovl_path_is_whiteout(); `other` is none. The value of the attribute says nothing, and what cannot be read
// is no whiteout.
EntryForm MergedLayers::whiteout_form(const LayerDirectory& directory, const std::string& name,
                                      const abi::Statx& status) const {
  if (is_character_device_zero(status)) return EntryForm::whiteout;
  if (!S_ISREG(status.mode) || status.size != 0) return EntryForm::other;
  auto mark = xattr_value_at(directory.fd->get(), name, xattr("whiteout"));
  return mark && *mark ? EntryForm::xattr_whiteout : EntryForm::other;
}

Result<std::optional<abi::Statx>> MergedLayers::shown_status(const LayerDirectory& directory,
                                                             const std::string& name) const {
  auto status = TRY(status_of(directory.fd->get(), name));
  if (status && whiteout_form(directory, name, *status) != EntryForm::other) status.reset();
  return status;
}

// Whether its redirect is to be read.
Result<bool> MergedLayers::look_at_file(LayerEntry& entry, Search& search) const {
  std::optional<std::string> metacopy;
  if (S_ISREG(entry.status.mode)) {
    auto value = xattr_value_at(entry.parent.fd->get(), entry.name, xattr("metacopy"));
    // user.* attributes need the permission to read: the kernel takes it for no metacopy file then.
    if (!value && !(stack_.userxattr && value.error().err == EACCES)) return std::move(value).error();
    if (value) metacopy = *std::move(value);
  }
  if (metacopy && !read_metacopy(*metacopy))
    search.refuse(Refusal::metacopy_malformed, EIO, entry.parent, entry.name);
  if (metacopy) entry.form = EntryForm::metacopy;
  search.metacopy = metacopy.has_value();
  search.stop = !search.metacopy;
  return search.metacopy && !search.last;
}

Result<bool> MergedLayers::look_at_directory(LayerEntry& entry, Search& search, bool last_name) const {
  entry.form = EntryForm::directory;
  if (is_trap(entry.status)) {
    search.refuse(Refusal::layer_inside_layer, ELOOP, entry.parent, entry.name);
    return false;
  }
  entry.fd =
      std::make_shared<const Fd>(TRY(open_beneath(entry.parent.fd->get(), entry.name, O_PATH | O_DIRECTORY)));
  if (last_name) search.is_directory = true;
  if (search.last) return false;
  // What cannot be read is no mark, to the kernel.
  auto value = xattr_value_at(entry.parent.fd->get(), entry.name, xattr("opaque"));
  if (!value) entry.opaque_error = value.error().err;
  if (value && *value) entry.opaque = read_opaque(**value);
  if (entry.opaque == Opaque::yes) search.stop = true;
  return entry.opaque != Opaque::yes;
}

// ovl_check_redirect(): `before` bytes of the path that is looked for stand before the entry's name.
Result<void> MergedLayers::read_redirect_of(LayerEntry& entry, Search& search, size_t before,
                                            const std::string& after) const {
  search.absolute_redirect = false;
  entry.redirect = TRY(xattr_value_at(entry.parent.fd->get(), entry.name, xattr("redirect")));
  if (!entry.redirect) return {};
  const auto redirect = read_redirect(*entry.redirect);
  if (!redirect) {
    search.refuse(Refusal::redirect_malformed, EINVAL, entry.parent, entry.name);
    return {};
  }
  search.redirected = true;
  search.absolute_redirect = redirect->absolute();
  // An opaque directory on the way ends the look-up in lower layers, but for what names its place there.
  if (redirect->absolute()) search.stop = false;
  search.name = redirect->absolute() ? std::string() : search.name.substr(0, before);
  search.name.append(redirect->path).append(after);
  return {};
}

// ovl_lookup_single(): one name in one directory of one layer; `after` follows it in the path that is looked
// for.
Result<std::optional<LayerEntry>> MergedLayers::look(const LayerDirectory& base, Search& search,
                                                     const std::string& name, size_t before,
                                                     const std::string& after) const {
  const bool last_name = after.empty();
  if (name.empty() || name == "." || name == "..") {
    search.refuse(Refusal::redirect_bad_name, EACCES, base, name);
    return std::optional<LayerEntry>();
  }
  auto status = TRY(status_of(base.fd->get(), name));
  if (!status) return std::optional<LayerEntry>();
  LayerEntry entry{base, name, EntryForm::other, *status, Opaque::no, {}, {}};
  entry.form = whiteout_form(base, name, *status);
  if (entry.is_whiteout()) {
    search.stop = true;
    search.whiteout = std::move(entry);
    return std::optional<LayerEntry>();
  }
  // A directory does not merge with anything else, nor has that the data of a metacopy file.
  const bool directory = S_ISDIR(status->mode);
  if ((last_name && search.metacopy && !S_ISREG(status->mode)) ||
      (!directory && (search.is_directory || !last_name))) {
    search.stop = true;
    return std::optional<LayerEntry>();
  }
  const bool more =
      TRY(directory ? look_at_directory(entry, search, last_name) : look_at_file(entry, search));
  if (more && !search.refused) TRY(read_redirect_of(entry, search, before, after));
  return std::optional(std::move(entry));
}

// ovl_lookup_layer(): a name in the directory, or a path from the layer's root. Redirects on the way are for
// the layers below. What is left of the path is counted from its end, since a redirect changes its beginning.
Result<std::optional<LayerEntry>> MergedLayers::look_in_layer(const LayerDirectory& base,
                                                              Search& search) const {
  if (!search.absolute()) return look(base, search, std::string(search.name), 0, {});
  LayerDirectory at = base;
  size_t rest = search.name.size() - 1;
  while (true) {
    const size_t before = search.name.size() - rest;
    const size_t end = std::min(search.name.find('/', before), search.name.size());
    const std::string name = search.name.substr(before, end - before);
    const std::string after = search.name.substr(end);
    auto found = TRY(look(at, search, name, before, after));
    if (!found || search.refused || after.empty()) return found;
    at = {found->layer(), found->fd, found->path(), false};
    rest -= name.size() + 1;
  }
}

// The loop over the lower layers in ovl_lookup(), and what it makes of metacopy files after it.
Result<void> MergedLayers::look_below(const MergedDirectory& directory, size_t first_layer, Search& search,
                                      MergedEntry& entry) const {
  // The layers from `first_layer` on: in that directory, or from their roots once a redirect has led there.
  MergedDirectory roots;
  const MergedDirectory* lowers = &directory;
  bool from_root = search.absolute();
  const auto begin_at_root = [&] {
    from_root = true;
    roots = root(first_layer);
    lowers = &roots;
  };
  size_t i = 0;
  if (from_root)
    begin_at_root();
  else
    while (i < directory.size() && directory[i].layer < first_layer) ++i;
  const bool from_upper = !entry.found.empty();
  size_t below = 0;
  for (; !search.stop && i < lowers->size(); ++i) {
    if (!may_follow(search)) return {};
    const size_t layer = (*lowers)[i].layer;
    if (!checks_redirects())
      search.last = i == lowers->size() - 1;
    else if (search.is_directory || stack_.data_only.empty())
      search.last = layer == lowers_;
    auto found = TRY(look_in_layer((*lowers)[i], search));
    if (search.refused) return {};
    if (!found) continue;
    const bool verified = index_on_ && from_upper && below == 0 && found->form != EntryForm::directory;
    if (verified && TRY(is_other_origin(entry.found.front(), *found))) {
      search.refuse_last(Refusal::origin_mismatch, ESTALE);
      return {};
    }
    search.found(*found);
    entry.found.push_back(*std::move(found));
    ++below;
    if (search.stop) break;
    if (search.absolute() && !from_root) {
      begin_at_root();
      i = layer - first_layer;
    }
  }
  const bool waits = search.metacopy;
  if (waits && below > 0 && !stack_.data_only.empty() && search.absolute_redirect)
    return look_for_data(search, entry);
  if (!may_follow(search)) return {};
  if (waits) search.refuse_last(Refusal::data_missing, EIO);
  return {};
}

// ovl_lookup_data_layers(), which the kernel puts off until the file is opened.
Result<void> MergedLayers::look_for_data(const Search& search, MergedEntry& entry) const {
  const std::string path = search.name.substr(search.name.find_first_not_of('/'));
  entry.data_error = ENOENT;
  for (size_t layer = lowers_ + 1; layer < layers_.size(); ++layer) {
    auto place = place_beneath(layers_[layer].root->get(), path);
    if (!place) {
      entry.data_error = place.error().err;
      continue;
    }
    auto status = TRY(status_of(place->parent.get(), place->name));
    if (!status || !S_ISREG(status->mode)) {
      entry.data_error = ENOENT;
      continue;
    }
    const size_t slash = path.rfind('/');
    const LayerDirectory parent{layer, std::make_shared<const Fd>(std::move(place->parent)),
                                slash == std::string::npos ? std::string() : path.substr(0, slash), false};
    entry.lazy_data = LayerEntry{parent, place->name, EntryForm::other, *status, Opaque::no, {}, {}};
    entry.data_error = 0;
    return {};
  }
  return {};
}

Result<std::string> MergedLayers::handle_of(const LayerEntry& entry) const {
  const FileHandle handle = TRY(file_handle(entry.parent.fd->get(), entry.name));
  return encode_overlay_handle(handle, layers_[entry.layer()].uuid, false);
}

// ovl_verify_origin() of a metacopy file in the upper; an origin that is not there any more is none.
Result<bool> MergedLayers::is_other_origin(const LayerEntry& upper, const LayerEntry& below) const {
  const auto origin = TRY(xattr_value_at(upper.parent.fd->get(), upper.name, xattr("origin")));
  const auto handle = origin ? read_overlay_handle(*origin) : std::nullopt;
  if (!handle || *origin == TRY(handle_of(below))) return false;
  for (size_t layer = 1; layer < layers_.size(); ++layer) {
    if (layers_[layer].uuid != handle->uuid) continue;
    const Fd root = TRY(reopen_readable(layers_[layer].root->get(), {}));
    auto decoded = open_handle(root.get(), {handle->type, std::string(handle->bytes)}, O_PATH);
    if (!decoded) continue;
    const auto status = TRY(status_of(decoded->get(), {}));
    return status && S_ISREG(status->mode);
  }
  return false;
}

Result<std::optional<std::string>> MergedLayers::index_name_of(const LayerEntry& lower) const {
  if (!index_) return std::optional<std::string>();
  std::string name = index_name_of_handle(TRY(handle_of(lower)));
  if (!TRY(status_of(index_->get(), name))) return std::optional<std::string>();
  return std::optional(std::move(name));
}

// Under index=on a lower file that has been copied up under one of its names is so under all of them.
Result<void> MergedLayers::look_in_index(MergedEntry& entry) const {
  const auto indexed = TRY(index_name_of(entry.found.front()));
  if (!indexed) return {};
  const std::string& name = *indexed;
  auto status = TRY(status_of(index_->get(), name));
  if (!status) return {};
  const LayerDirectory parent{kIndexLayer, index_, "index", false};
  LayerEntry upper{parent, name, EntryForm::other, *status, Opaque::no, {}, {}};
  const auto refuse = [&](Refusal why, int err) {
    entry.refused = {why, err, kIndexLayer, upper.path()};
    return Result<void>();
  };
  if (is_character_device_zero(*status) || ((status->mode ^ entry.found.front().status.mode) & S_IFMT) != 0)
    return refuse(Refusal::index_bad, EIO);
  upper.redirect = TRY(xattr_value_at(index_->get(), name, xattr("redirect")));
  if (upper.redirect && !read_redirect(*upper.redirect)) return refuse(Refusal::redirect_malformed, EINVAL);
  const auto metacopy = S_ISREG(status->mode) ? TRY(xattr_value_at(index_->get(), name, xattr("metacopy")))
                                              : std::optional<std::string>();
  if (metacopy && !read_metacopy(*metacopy)) return refuse(Refusal::metacopy_malformed, EIO);
  if (metacopy && !stack_.metacopy) return refuse(Refusal::metacopy_off, EPERM);
  if (upper.redirect && !follows_redirects()) return refuse(Refusal::redirect_not_followed, EPERM);
  if (metacopy) upper.form = EntryForm::metacopy;
  entry.index = std::move(upper);
  return {};
}

Result<MergedEntry> MergedLayers::lookup(const MergedDirectory& directory, const std::string& name,
                                         size_t first_layer) const {
  MergedEntry entry;
  Search search;
  search.name = name;
  if (name.size() > NAME_MAX) {
    entry.name_too_long = true;
    return entry;
  }
  search.last = !checks_redirects() &&
                std::none_of(directory.begin(), directory.end(), [&](const LayerDirectory& part) {
                  return part.layer >= std::max<size_t>(first_layer, 1);
                });
  const bool with_upper = first_layer == 0 && !directory.empty() && directory.front().layer == 0;
  if (with_upper) {
    if (auto found = TRY(look_in_layer(directory.front(), search))) {
      search.found(*found);
      entry.found.push_back(*std::move(found));
    }
  }
  if (!search.refused) TRY(look_below(directory, std::max<size_t>(first_layer, 1), search, entry));
  entry.refused = std::move(search.refused);
  entry.whiteout = std::move(search.whiteout);
  const bool lower_file =
      !entry.refused && !entry.found.empty() && entry.found.front().layer() > 0 && !entry.is_directory();
  if (lower_file && first_layer == 0 && index_on_) TRY(look_in_index(entry));
  return entry;
}

Result<MergedEntry> MergedLayers::lookup_below(const MergedDirectory& directory, size_t first_layer,
                                               const std::string& name) const {
  return lookup(directory, name, std::max<size_t>(first_layer, 1));
}

Result<MergedEntry> MergedLayers::lookup_known(const MergedDirectory& directory, size_t first_layer,
                                               const std::string& name, const KnownAbove& above) const {
  MergedEntry entry;
  Search search;
  search.name = name;
  search.is_directory = above.directory;
  search.metacopy = above.metacopy;
  search.last_layer = first_layer - 1;
  search.last_path = name;
  if (above.redirect) {
    const auto redirect = read_redirect(*above.redirect);
    if (!redirect) {
      entry.refused = {Refusal::redirect_malformed, EINVAL, first_layer - 1, name};
      return entry;
    }
    search.redirected = true;
    search.absolute_redirect = redirect->absolute();
    search.name = redirect->path;
  }
  TRY(look_below(directory, std::max<size_t>(first_layer, 1), search, entry));
  entry.refused = std::move(search.refused);
  entry.whiteout = std::move(search.whiteout);
  return entry;
}

}  // namespace overlayfs
