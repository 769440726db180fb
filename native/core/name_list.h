// The names in directories, in the byte order of the paths that begin with them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ordered_work.h"
#include "result.h"

namespace overlayfs {

class NameList {
 public:
  // An entry or, of a directory, what lies below it: `a-b` sorts between `a` and `a/b`.
  struct Item {
    std::string_view name;
    bool subtree, directory;
  };

  // Adds the names of an open directory (O_RDONLY). Stops early when the work is cancelled. `all_below`: give
  // every name a place for what lies below it, whatever it is in this directory.
  Result<void> read(int directory, const OrderedWork::Pieces& work, bool all_below = false);
  // Those of all its parts in the lowers.
  Result<void> read(const MergedDirectory& lowers, const OrderedWork::Pieces& work);
  void add(std::string_view name, bool is_directory);
  // To be called once, when all names are in: each is told once then, whatever directories it came from.
  // Stops early too.
  void sort(const OrderedWork::Pieces& work);

  size_t size() const { return items_.size(); }
  Item operator[](size_t at) const;

 private:
  struct Sorted {
    uint64_t key;  // the first bytes behind what all names have in common, for quick comparing
    uint32_t at;
    uint16_t size;  // a subtree's with the slash
    bool subtree, directory;
  };
  std::string_view text(const Sorted& item) const { return {names_.data() + item.at, item.size}; }
  bool less(const Sorted& a, const Sorted& b) const;
  void sort_between(size_t from, size_t to, unsigned depth, const OrderedWork::Pieces& work);

  std::string names_;  // each behind its length (two bytes), directories with a slash at their end
  size_t count_ = 0;
  std::vector<Sorted> items_;
};

}  // namespace overlayfs
