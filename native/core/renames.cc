#include "renames.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <mutex>

#include "beneath.h"
#include "change_context.h"
#include "file_handle.h"
#include "name_list.h"
#include "xattr_at.h"

namespace overlayfs {
namespace {

// A directory of the upper that shows another one of the before-view.
struct Redirected {
  std::string path, from;
  size_t layer;  // of the topmost directory below it, and
  std::string layer_path;
};

// A file of the upper that was copied up from somewhere else than below its own place.
struct Candidate {
  std::string path, handle;  // the file system's handle, with its type before it
  Uuid uuid;
  EntryType type;
};

std::string handle_key(int type, std::string_view bytes) {
  return std::string(1, static_cast<char>(type)).append(bytes);
}

bool has_handle(const LayerEntry& entry, const std::string& key) {
  auto handle = file_handle(entry.parent.fd->get(), entry.name);
  return handle && handle_key(handle->type, handle->bytes) == key;
}

size_t depth_of(const std::string& path) {
  return static_cast<size_t>(std::count(path.begin(), path.end(), '/'));
}

}  // namespace

const std::string* Renames::from(const std::string& path) const {
  const auto found = from_.find(path);
  return found == from_.end() ? nullptr : &found->second;
}

// One search. What cannot be looked at is passed over: the walk that tells the changes tells that too.
class RenameSearch {
 public:
  RenameSearch(ChangeContext& context, Renames& renames) : context_(context), renames_(renames) {}
  Result<void> find();

 private:
  enum class Looking { for_moved, for_hidden };
  struct Visit;
  struct Scan;

  bool is_origin_of(const LayerEntry& below, const OpenTreeDirectory& open, const std::string& name) const;
  static bool lies_below(const OpenTreeDirectory& open, const std::string& name, const std::string& key);
  void add_candidate(const OpenTreeDirectory& open, const std::string& name);
  void hide(const TreeDirectoryPtr& directory, const OpenTreeDirectory& open, const std::string& name,
            const MergedEntry& here, OrderedWork::Pieces& pieces);
  void match(const LayerEntry& entry, const std::string& before);
  Result<bool> is_hidden(const std::string& before) const;
  void claim_directories();
  void claim_files();

  ChangeContext& context_;
  Renames& renames_;
  std::vector<Uuid> uuids_;  // of the lowers, by their numbers
  std::mutex mutex_;         // for what follows
  std::vector<Redirected> redirected_;
  std::vector<Candidate> candidates_;
  std::unordered_set<std::string> elsewhere_;        // directories that do not show what was at their place
  std::unordered_map<std::string, std::string> at_;  // directories by where they were
  std::unordered_map<std::string, std::string> hidden_;  // by handle: the first hidden path that has it
};

// Every directory of the upper: first for redirects and origins, then for what it hides.
struct RenameSearch::Visit final : OrderedWork::Task {
  Visit(RenameSearch& search, TreeDirectoryPtr directory, Looking looking)
      : search_(search), directory_(std::move(directory)), looking_(looking) {}

  void run(OrderedWork::Pieces& pieces) override {
    auto open = search_.context_.tree.open(directory_);
    if (!open) return;
    NameList names;
    if (!names.read((*open)->upper->get(), pieces)) return;
    names.sort(pieces);
    // Only directories with this mark hold what was copied up.
    auto impure = xattr_value_at((*open)->upper->get(), ".", search_.context_.own("impure"));
    const bool copied_up = impure && *impure;
    for (size_t i = 0; i < names.size() && !pieces.cancelled(); ++i) {
      const std::string name(names[i].name);
      if (names[i].subtree)
        visit_directory(**open, name, pieces);
      else if (names[i].directory)
        continue;
      else if (looking_ == Looking::for_hidden)
        hide_by_file(**open, name, pieces);
      else if (copied_up)
        search_.add_candidate(**open, name);
    }
  }

 private:
  void hide_by_file(const OpenTreeDirectory& open, const std::string& name, OrderedWork::Pieces& pieces) {
    auto here = look_before(search_.context_, open, name);
    if (!here || !*here || !(*here)->exists()) return;
    // What was copied up in its place, and may have further names now, hides nothing.
    if (!(*here)->is_directory() && search_.is_origin_of((*here)->found.front(), open, name)) return;
    hide(open, name, **here, pieces);
  }

  void hide(const OpenTreeDirectory& open, const std::string& name, const MergedEntry& here,
            OrderedWork::Pieces& pieces) {
    if (directory_->role == TreeRole::merged) search_.hide(directory_, open, name, here, pieces);
  }

  void visit_directory(const OpenTreeDirectory& open, const std::string& name, OrderedWork::Pieces& pieces) {
    auto entry = look_at_upper(search_.context_, open, name, true);
    if (!entry || !*entry || !(*entry)->is_directory()) return;
    UpperDirectory directory{**std::move(entry), {}, {}, {}, {}, {}};
    if (!place_directory(search_.context_, *directory_, open, name, directory) || directory.refused) return;
    const bool in_place = !directory.lowers.empty() && !directory.from;
    if (looking_ == Looking::for_moved && directory.from) {
      const std::scoped_lock lock(search_.mutex_);
      search_.redirected_.push_back(
          {join_path(open.path, name), *directory.from, directory.base->layer(), directory.base->path()});
    } else if (looking_ == Looking::for_hidden && directory.here && !in_place) {
      hide(open, name, *directory.here, pieces);
    }
    // What shows a directory that shows elsewhere too hides nothing of it.
    const bool copy = looking_ == Looking::for_hidden && directory.from &&
                      search_.renames_.from(join_path(open.path, name)) == nullptr;
    auto child = MergedTree::child(directory_, open, name, copy ? TreeRole::added : TreeRole::merged,
                                   &directory.entry.status, directory.lowers, std::move(directory.from));
    pieces.add(std::make_unique<Visit>(search_, std::move(child), looking_));
  }

  RenameSearch& search_;
  TreeDirectoryPtr directory_;
  const Looking looking_;
};

// Everything in a directory that is hidden.
struct RenameSearch::Scan final : OrderedWork::Task {
  Scan(RenameSearch& search, TreeDirectoryPtr directory)
      : search_(search), directory_(std::move(directory)) {}

  void run(OrderedWork::Pieces& pieces) override {
    auto open = search_.context_.tree.open(directory_);
    NameList names;
    if (!open || !names.read((*open)->lowers, pieces)) return;
    names.sort(pieces);
    for (size_t i = 0; i < names.size() && !pieces.cancelled(); ++i) {
      if (names[i].subtree) continue;
      const std::string name(names[i].name);
      auto here = look_before(search_.context_, **open, name);
      if (here && *here) search_.hide(directory_, **open, name, **here, pieces);
    }
  }

 private:
  RenameSearch& search_;
  TreeDirectoryPtr directory_;
};

Result<void> RenameSearch::find() {
  const MergedLayers& layers = context_.layers();
  for (size_t layer = 1; layer <= layers.lowers(); ++layer) {
    auto uuid = file_system_uuid(layers.root_of(layer)->get());
    uuids_.push_back(uuid ? *uuid : Uuid{});
  }
  TRY(context_.run(std::make_unique<Visit>(*this, context_.tree.root(), Looking::for_moved)));
  claim_directories();
  if (candidates_.empty()) return {};
  for (const Candidate& candidate : candidates_) hidden_.try_emplace(candidate.handle);
  TRY(context_.run(std::make_unique<Visit>(*this, context_.tree.root(), Looking::for_hidden)));
  claim_files();
  return {};
}

// Whether a file of the upper was copied up from this one.
bool RenameSearch::is_origin_of(const LayerEntry& below, const OpenTreeDirectory& open,
                                const std::string& name) const {
  auto value = xattr_value_at(open.upper->get(), name, context_.own("origin"));
  const auto origin = value && *value ? read_overlay_handle(**value) : std::nullopt;
  return origin && has_handle(below, handle_key(origin->type, origin->bytes));
}

// The topmost that the lowers have under this name: one system call, where a look-up takes several. Most of
// what was copied up is still where it was.
bool RenameSearch::lies_below(const OpenTreeDirectory& open, const std::string& name,
                              const std::string& key) {
  for (const LayerDirectory& lower : open.was) {
    auto handle = file_handle(lower.fd->get(), name);
    if (handle) return handle_key(handle->type, handle->bytes) == key;
    if (handle.error().err != ENOENT) break;
  }
  return false;
}

void RenameSearch::add_candidate(const OpenTreeDirectory& open, const std::string& name) {
  auto value = xattr_value_at(open.upper->get(), name, context_.own("origin"));
  const auto origin = value && *value ? read_overlay_handle(**value) : std::nullopt;
  if (!origin) return;
  const auto known = [&](const Uuid& uuid) { return uuid == origin->uuid; };
  if (origin->uuid != Uuid{} && std::none_of(uuids_.begin(), uuids_.end(), known)) return;
  std::string key = handle_key(origin->type, origin->bytes);
  if (lies_below(open, name, key)) return;
  auto entry = look_at_upper(context_, open, name, false);
  if (!entry || !*entry || (*entry)->is_whiteout) return;
  auto here = look_before(context_, open, name);
  if (!here) return;
  if (*here && (*here)->exists() && has_handle((*here)->found.front(), key)) return;
  const std::scoped_lock lock(mutex_);
  if (candidates_.size() >= Renames::kMostCandidates) {
    renames_.cut_ = true;
    return;
  }
  candidates_.push_back(
      {join_path(open.path, name), std::move(key), origin->uuid, entry_type((*entry)->status.mode)});
}

void RenameSearch::hide(const TreeDirectoryPtr& directory, const OpenTreeDirectory& open,
                        const std::string& name, const MergedEntry& here, OrderedWork::Pieces& pieces) {
  const std::string before = join_path(open.before, name);
  if (!here.exists() || renames_.moved(before)) return;
  if (!here.is_directory()) {
    match(here.found.front(), before);
    return;
  }
  auto child = MergedTree::child(directory, open, name, TreeRole::deleted, nullptr, here.directory());
  pieces.add(std::make_unique<Scan>(*this, std::move(child)));
}

void RenameSearch::match(const LayerEntry& entry, const std::string& before) {
  auto handle = file_handle(entry.parent.fd->get(), entry.name);
  if (!handle) return;
  const std::scoped_lock lock(mutex_);
  const auto wanted = hidden_.find(handle_key(handle->type, handle->bytes));
  if (wanted == hidden_.end()) return;
  if (wanted->second.empty() || before < wanted->second) wanted->second = before;
}

// Whether the after-view shows nothing of what the before-view has at this path, but for what was renamed.
Result<bool> RenameSearch::is_hidden(const std::string& before) const {
  const int upper = context_.layers().root_of(0)->get();
  std::string at;  // where in the upper the directory is that the before-view has at before[0, from)
  for (size_t from = 0;;) {
    const size_t end = std::min(before.find('/', from), before.size());
    const std::string path = join_path(at, before.substr(from, end - from)), known = before.substr(0, end);
    auto place = place_beneath(upper, path);
    if (!place && place.error().err == ENOENT) return false;
    if (!place) return std::move(place).error();
    OpenTreeDirectory parent;
    parent.upper = std::make_shared<const Fd>(std::move(place->parent));
    const auto entry = TRY(look_at_upper(context_, parent, place->name, true));
    if (!entry) return false;
    bool hides = !entry->is_directory() || elsewhere_.contains(path);
    if (!hides && entry->has(context_.own("opaque"))) {
      const auto opaque = TRY(xattr_value_at(parent.upper->get(), place->name, context_.own("opaque")));
      hides = opaque && read_opaque(*opaque) == Opaque::yes;
    }
    if (end == before.size()) return hides;
    at = path;
    if (hides) {
      const auto moved = at_.find(known);
      if (moved == at_.end()) return true;
      at = moved->second;
    }
    from = end + 1;
  }
}

// Those above first, since what lies in them may have moved on from there.
void RenameSearch::claim_directories() {
  std::sort(redirected_.begin(), redirected_.end(), [](const Redirected& a, const Redirected& b) {
    const size_t one = depth_of(a.from), other = depth_of(b.from);
    return one != other ? one < other : a.from != b.from ? a.from < b.from : a.path < b.path;
  });
  for (const Redirected& one : redirected_) elsewhere_.insert(one.path);
  for (const Redirected& one : redirected_) {
    if (context_.cancelled) return;
    if (at_.contains(one.from)) continue;
    auto before = look_before_at(context_, one.from);
    if (!before || !*before || !(*before)->is_directory()) continue;
    const LayerEntry& top = (*before)->found.front();
    if (top.layer() != one.layer || top.path() != one.layer_path) continue;
    auto hidden = is_hidden(one.from);
    if (!hidden || !*hidden) continue;
    at_[one.from] = one.path;
    renames_.from_[one.path] = one.from;
    renames_.moved_.insert(one.from);
  }
}

void RenameSearch::claim_files() {
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.path < b.path; });
  for (const Candidate& candidate : candidates_) {
    if (context_.cancelled) return;
    const std::string& before = hidden_[candidate.handle];
    if (before.empty() || renames_.moved(before)) continue;
    auto entry = look_before_at(context_, before);
    if (!entry || !*entry) continue;
    const LayerEntry& was = (*entry)->found.front();
    const Uuid& uuid = uuids_[was.layer() - 1];  // zeros: not told
    const bool same_file_system = candidate.uuid == Uuid{} || uuid == Uuid{} || candidate.uuid == uuid;
    if (!same_file_system || entry_type(was.status.mode) != candidate.type) continue;
    renames_.from_[candidate.path] = before;
    renames_.moved_.insert(before);
  }
}

Result<void> Renames::find(ChangeContext& context) { return RenameSearch(context, *this).find(); }

}  // namespace overlayfs
