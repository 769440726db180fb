// What is to be done in a store, step by step and in this order: a power cut between two steps leaves the
// first one done and the second not.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "result.h"

namespace overlayfs {

enum class StoreAction {
  lock_shared,     // `path`, a directory, until all steps are done; EWOULDBLOCK
  lock_exclusive,  //
  unlock,          // all that are held: what comes then may take long
  expect,          // the file has exactly these bytes; else ESTALE
  unused,          // no live overlay writes to the directory; else EBUSY. `mode` is not 0 where layers may be
                   // detached
  mkdir,           // with exactly this mode
  write,           // a new file with exactly this mode
  replace,         // a file, written aside and renamed over
  ensure,          // an empty file, if nothing is there
  symlink,         // to `other`
  rename,          // to `other`, which must not be there
  exchange,        // with `other`
  unlink,          // if it is there
  rmdir,           // if it is there
  remove,          // with everything in it, but never what is mounted there
  sync,            // a directory: fsync(2)
  syncfs,          // its file system
};
const char* store_action_name(StoreAction action);

struct StoreStep {
  StoreAction action = StoreAction::sync;
  std::string path;   // below the store's root
  std::string other;  // the content, a symbolic link's target, the other path
  mode_t mode = 0;
};

struct StoreFailure {
  SysError error;
  size_t step = 0;  // those before it are done
};

// Carries the steps out. `durable`: every file that is written is synced before it has its name, and the
// steps `sync` and `syncfs` are carried out; otherwise they are left out.
std::optional<StoreFailure> run_store_steps(int root, const std::vector<StoreStep>& steps, bool durable);

}  // namespace overlayfs
