#include "layer_batch.h"

#include <fcntl.h>

#include <unordered_map>

#include "sys.h"

namespace overlayfs {
namespace {

struct Neighbours {
  std::string_view path;
  std::vector<size_t> members;
};

std::vector<Neighbours> by_directory(const std::vector<std::string>& paths) {
  std::vector<Neighbours> groups;
  std::unordered_map<std::string_view, size_t> known;
  for (size_t i = 0; i < paths.size(); ++i) {
    const std::string_view parent = split_path(paths[i]).first;
    if (groups.empty() || groups.back().path != parent) {
      const auto [entry, is_new] = known.try_emplace(parent, groups.size());
      if (is_new) groups.push_back({parent, {}});
      groups[entry->second].members.push_back(i);
    } else {
      groups.back().members.push_back(i);
    }
  }
  return groups;
}

Batch failed_at(Batch batch, size_t index, BatchError failure) {
  failure.index = index;
  batch.failure = std::move(failure);
  return batch;
}

// The layer itself, which for one file's attributes need not be a directory.
Result<Fd> copy_of(int layer) {
  Fd copy(sys::dup_fd(layer));
  if (!copy) return failed("fcntl", "F_DUPFD_CLOEXEC");
  return copy;
}

const BatchError kCancelled{SysError{ECANCELED, "abort", {}, {}, {}}};

}  // namespace

const char* refusal_name(BatchRefusal refusal) {
  static constexpr const char* names[] = {"none",     "in-opaque", "on-overlay",     "not-whiteout",
                                          "marked-x", "root",      "without-xattrs", "malformed"};
  return names[static_cast<size_t>(refusal)];
}

Batch in_each_directory(int layer, const std::vector<std::string>& paths, const Cancel& cancel,
                        const Enter& enter, const Act& act, std::optional<char> absent) {
  Batch batch{std::string(paths.size(), '\0'), {}};
  for (const Neighbours& group : by_directory(paths)) {
    auto opened = open_beneath(layer, std::string(group.path), O_PATH | O_DIRECTORY);
    if (!opened && absent && (opened.error().err == ENOENT || opened.error().err == ENOTDIR)) {
      for (const size_t index : group.members) batch.outcomes[index] = *absent;
      continue;
    }
    if (!opened) return failed_at(std::move(batch), group.members[0], {std::move(opened.error())});
    const Directory directory{group.path, *std::move(opened)};
    if (auto refused = enter(directory); refused)
      return failed_at(std::move(batch), group.members[0], *std::move(refused));
    for (const size_t index : group.members) {
      if (cancelled(cancel)) return failed_at(std::move(batch), index, kCancelled);
      const std::string name(split_path(paths[index]).second);
      if (name.empty())
        return failed_at(std::move(batch), index, {{EINVAL, "openat2", {}, {}, {}}, BatchRefusal::root});
      Done done = act(directory, name);
      if (auto* failure = std::get_if<BatchError>(&done); failure != nullptr)
        return failed_at(std::move(batch), index, std::move(*failure));
      batch.outcomes[index] = std::get<char>(done);
    }
  }
  return batch;
}

Batch at_each_path(int layer, const std::vector<std::string>& paths, const Cancel& cancel, int flags,
                   const Visit& visit) {
  Batch batch{std::string(paths.size(), '\0'), {}};
  for (size_t index = 0; index < paths.size(); ++index) {
    if (cancelled(cancel)) return failed_at(std::move(batch), index, kCancelled);
    auto opened = paths[index].empty() ? copy_of(layer) : open_beneath(layer, paths[index], O_PATH | flags);
    if (!opened) return failed_at(std::move(batch), index, {std::move(opened.error())});
    Done done = visit(*opened, index);
    if (auto* failure = std::get_if<BatchError>(&done); failure != nullptr)
      return failed_at(std::move(batch), index, std::move(*failure));
    batch.outcomes[index] = std::get<char>(done);
  }
  return batch;
}

}  // namespace overlayfs
