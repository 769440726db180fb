// What the entries of a target were when they were compared with the before-view: one that differs when it
// has left its place was edited meanwhile, and is not ours to remove.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>

#include "kernel_abi.h"
#include "result.h"

namespace overlayfs {

class SeenEntries {
 public:
  // An open entry (O_PATH will do), before its content is looked at. The first look counts.
  Result<void> note(int entry);
  // Whether that is what a name in a directory (an empty one: the descriptor's own) still has; `status` is
  // what statx(2) says of it now. Times of a directory say nothing, since names in it are changed by
  // ourselves: its attributes are compared.
  Result<bool> has(const abi::Statx& status, int directory, const std::string& name) const;
  // It has just been moved or linked by us, which is a change of the inode; on an overlay it may be another
  // inode now.
  Result<void> note_moved(const abi::Statx& status, int directory, const std::string& name);

 private:
  struct Seen {
    abi::StatxTime ctime, mtime;
    uint64_t size;
    uint32_t uid, gid;
    uint16_t mode;
    std::string attributes;  // of a directory: names and values
  };
  using Key = std::pair<uint64_t, uint64_t>;  // device and inode
  struct Hash {
    size_t operator()(const Key& key) const { return key.second * 31 + key.first; }
  };
  static Key key_of(const abi::Statx& status);
  static Result<Seen> seen_of(const abi::Statx& status, int directory, const std::string& name);

  std::unordered_map<Key, Seen, Hash> seen_;
};

// But for the time of change.
bool looks_the_same(const abi::Statx& one, const abi::Statx& other);

}  // namespace overlayfs
