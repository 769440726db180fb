// What the entries of a target were when they were compared with the before-view: one that differs when it
// has left its place was edited meanwhile, and is not ours to remove.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>

#include "kernel_abi.h"

namespace overlayfs {

class SeenEntries {
 public:
  // Before its content is looked at. The first look counts.
  void note(const abi::Statx& status);
  // Times of a directory say nothing: names in it are changed by ourselves.
  bool has(const abi::Statx& status) const;
  // It has just been moved or linked by us, which is a change of the inode; on an overlay it may be another
  // inode now.
  void note_moved(const abi::Statx& status);

 private:
  struct Seen {
    abi::StatxTime ctime, mtime;
    uint64_t size;
    uint32_t uid, gid;
    uint16_t mode;
  };
  using Key = std::pair<uint64_t, uint64_t>;  // device and inode
  struct Hash {
    size_t operator()(const Key& key) const { return key.second * 31 + key.first; }
  };
  static Key key_of(const abi::Statx& status);
  static Seen seen_of(const abi::Statx& status);

  std::unordered_map<Key, Seen, Hash> seen_;
};

// But for the time of change.
bool looks_the_same(const abi::Statx& one, const abi::Statx& other);

}  // namespace overlayfs
