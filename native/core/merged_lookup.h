// A name of the merged view, looked up in the layers themselves exactly as the kernel does it
// (fs/overlayfs/namei.c, ovl_lookup). Nothing is followed but redirects, and nothing leaves a layer.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fd.h"
#include "file_handle.h"
#include "kernel_abi.h"
#include "layer_stack.h"
#include "overlay_xattr.h"
#include "result.h"

namespace overlayfs {

// A directory of one layer, open (O_PATH). Layers are numbered as the kernel does: 0 is the upper, also where
// there is none; then the lowers, topmost first; then those that only hold data.
struct LayerDirectory {
  size_t layer = 0;
  std::shared_ptr<const Fd> fd;
  std::string path;              // in its layer, without a leading slash; the layer's root is empty
  bool xattr_whiteouts = false;  // marked as holding whiteouts that are files (opaque=x)
};

// The directories that one directory of the merged view is made of, topmost first.
using MergedDirectory = std::vector<LayerDirectory>;

enum class EntryForm {
  whiteout,        // a character device 0:0
  xattr_whiteout,  // an empty regular file with overlay.whiteout
  directory,
  metacopy,  // a regular file whose data lies further below
  other,     // anything else, complete in itself
};

// What a layer has under a name.
struct LayerEntry {
  LayerDirectory parent;
  std::string name;  // in `parent`; a redirect may have changed it
  EntryForm form = EntryForm::other;
  abi::Statx status{};
  Opaque opaque = Opaque::no;           // of a directory
  std::optional<std::string> redirect;  // as it was written; only read where the kernel reads it
  std::shared_ptr<const Fd> fd;         // of a directory (O_PATH)
  int opaque_error = 0;                 // why the mark cannot be read, which the kernel takes for none then

  size_t layer() const { return parent.layer; }
  std::string path() const;  // in its layer
  bool is_whiteout() const { return form == EntryForm::whiteout || form == EntryForm::xattr_whiteout; }
};

// Why the kernel refuses to look the name up, in place of an answer.
enum class Refusal {
  redirect_not_followed,  // EPERM: redirects are not honoured (redirect_dir=nofollow)
  metacopy_off,           // EPERM: metacopy files are not honoured (metacopy=off)
  redirect_malformed,     // EINVAL
  redirect_bad_name,      // EACCES: an empty name, `.` or `..`
  metacopy_malformed,     // EIO
  data_missing,           // EIO: nothing below has the data of a metacopy file
  layer_inside_layer,     // ELOOP: the directory is the root of a layer, or the work directory
  index_bad,              // EIO: the index has something else under the file's name
  origin_mismatch,        // ESTALE: under index=on, a metacopy file whose origin is not what lies below
};
struct Refused {
  Refusal why = Refusal::data_missing;
  int err = 0;
  size_t layer = 0;  // where what the kernel refuses lies
  std::string path;  // in that layer
};
constexpr size_t kIndexLayer = ~size_t{0};  // work/index, where a place in a layer is told

// A name of the merged view.
struct MergedEntry {
  // What shows through, topmost first: the directories that are merged, or a metacopy file, those below it
  // and the one that has the data, or one entry. Where the kernel refuses the name: as far as it came.
  std::vector<LayerEntry> found;
  std::optional<LayerEntry> whiteout;   // that hides what is below it
  std::optional<LayerEntry> index;      // under index=on: the upper of a hard link, which work/index keeps
  std::optional<LayerEntry> lazy_data;  // of a metacopy file, in a data-only layer
  int data_error = 0;  // why opening it fails, though it exists: no data-only layer has the data
  std::optional<Refused> refused;
  bool name_too_long = false;  // ENAMETOOLONG, whatever the layers hold

  bool exists() const { return !refused && !found.empty(); }
  bool is_directory() const { return !found.empty() && found.front().form == EntryForm::directory; }
  // Of one that exists: where its metadata comes from, and its content.
  const LayerEntry& entry() const { return index ? *index : found.front(); }
  const LayerEntry& data() const;
  // What a directory is made of.
  MergedDirectory directory() const;
};

// What is known of a name from the layers above those in which it is to be looked up.
struct KnownAbove {
  bool directory = false;
  bool metacopy = false;                // a regular file that waits for its data
  std::optional<std::string> redirect;  // the attribute's value
};

// The layers of a stack, open. Every function may be called by several threads at once.
class MergedLayers {
 public:
  static Result<MergedLayers> open(const LayerStack& stack);

  bool has_upper() const { return layers_.front().root != nullptr; }
  size_t lowers() const { return lowers_; }         // without those that only hold data
  size_t layers() const { return layers_.size(); }  // all, with the place of the upper
  const LayerStack& stack() const { return stack_; }
  const std::shared_ptr<const Fd>& root_of(size_t layer) const { return layers_[layer].root; }
  const std::shared_ptr<const Fd>& work() const { return work_; }  // null: none is given
  bool reads_index() const { return index_on_; }
  std::string xattr(const char* name) const { return stack_.xattr_prefix() + std::string(name); }

  // The root of the view; from layer 1 on it is that of the lowers alone.
  MergedDirectory root(size_t first_layer = 0) const;

  // A name in a directory of the view, in its layers from `first_layer` on.
  Result<MergedEntry> lookup(const MergedDirectory& directory, const std::string& name,
                             size_t first_layer = 0) const;
  // What the layers from `first_layer` on show, whatever those above say: no index, that is the upper's.
  Result<MergedEntry> lookup_below(const MergedDirectory& directory, size_t first_layer,
                                   const std::string& name) const;
  // The same for a name of which something is known from above: what a directory merges with, or where a
  // metacopy file has its data.
  Result<MergedEntry> lookup_known(const MergedDirectory& directory, size_t first_layer,
                                   const std::string& name, const KnownAbove& above) const;

  // A name in one directory of one layer; none: it is not there, or a whiteout of either form.
  Result<std::optional<abi::Statx>> shown_status(const LayerDirectory& directory,
                                                 const std::string& name) const;
  // What work/index has of a file that is no directory, whether the options honour it or not: its name there.
  Result<std::optional<std::string>> index_name_of(const LayerEntry& lower) const;

 private:
  struct Layer {
    std::shared_ptr<const Fd> root;
    uint64_t device = 0;
    Uuid uuid{};
  };
  struct Search;

  bool follows_redirects() const { return stack_.redirect_dir != RedirectDir::nofollow; }
  bool checks_redirects() const { return follows_redirects() || !stack_.data_only.empty(); }
  bool may_follow(Search& search) const;
  bool is_trap(const abi::Statx& status) const;
  EntryForm whiteout_form(const LayerDirectory& directory, const std::string& name,
                          const abi::Statx& status) const;
  Result<void> open_layer(const DirectoryRef& ref, size_t layer);
  Result<void> open_index();
  Result<void> learn_uuid();

  Result<std::optional<LayerEntry>> look(const LayerDirectory& base, Search& search, const std::string& name,
                                         size_t before, const std::string& after) const;
  Result<bool> look_at_file(LayerEntry& entry, Search& search) const;
  Result<bool> look_at_directory(LayerEntry& entry, Search& search, bool last_name) const;
  Result<void> read_redirect_of(LayerEntry& entry, Search& search, size_t before,
                                const std::string& after) const;
  Result<std::optional<LayerEntry>> look_in_layer(const LayerDirectory& base, Search& search) const;
  Result<void> look_below(const MergedDirectory& directory, size_t first_layer, Search& search,
                          MergedEntry& entry) const;
  Result<void> look_for_data(const Search& search, MergedEntry& entry) const;
  Result<void> look_in_index(MergedEntry& entry) const;
  Result<std::string> handle_of(const LayerEntry& entry) const;
  Result<bool> is_other_origin(const LayerEntry& upper, const LayerEntry& below) const;

  LayerStack stack_;
  std::vector<Layer> layers_;
  size_t lowers_ = 0;
  bool index_on_ = false;  // asked for, and every layer has file handles
  std::shared_ptr<const Fd> work_;
  std::shared_ptr<const Fd> index_;                   // work/index, where there is one
  std::vector<std::pair<uint64_t, uint64_t>> traps_;  // device and inode of what no look-up may come to
};

}  // namespace overlayfs
