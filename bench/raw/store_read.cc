#include "inspect.h"
#include "store.h"
#include "store_files.h"

// After kernel.h: it defines CTIME.
#include <dirent.h>

namespace twin {
namespace {

std::vector<std::string> read_layers(int expected) {
  const int directory = beneath(".", kReadable);
  std::vector<std::string> ids;
  each_entry(directory, 65536, [&](const Dirent64& entry) {
    if (entry.type == DT_DIR && entry.name[0] != '.' && std::strcmp(entry.name, "l") != 0)
      ids.emplace_back(entry.name);
  });
  ::close(directory);
  for (const std::string& id : ids) const Layer layer(id);
  must(static_cast<int>(ids.size()) == expected ? 0 : (errno = ERANGE, -1), "layers");
  return ids;
}

void stat_directory(const std::string& path) {
  const Place place(path);
  struct stat st;
  must(::fstatat(place.parent, place.name.c_str(), &st, kUnfollowed), path.c_str());
}

void read_names(const std::string& path) {
  const int directory = beneath(path, kReadable);
  each_entry(directory, 65536, [](const Dirent64&) {});
  ::close(directory);
}

void read_links() {
  stat_directory("l");
  const int readable = beneath("l", kReadable);
  const std::vector<std::string> names = names_in(readable);
  ::close(readable);
  const int directory = beneath("l");
  for (const std::string& name : names) look(directory, name.c_str());
  ::close(directory);
}

struct Usage {
  uint64_t apparent = 0, allocated = 0, inodes = 0;

  void count(const struct stat& st) {
    ++inodes;
    allocated += static_cast<uint64_t>(st.st_blocks) * 512;
    if (!S_ISDIR(st.st_mode)) apparent += static_cast<uint64_t>(st.st_size);
  }
};

void walk(int directory, Usage& usage) {
  std::vector<std::string> directories;
  each_entry(directory, 32768, [&](const Dirent64& entry) {
    struct stat st;
    must(::fstatat(directory, entry.name, &st, kUnfollowed), entry.name);
    usage.count(st);
    if (S_ISDIR(st.st_mode)) directories.emplace_back(entry.name);
  });
  for (const std::string& name : directories) {
    const int inner = open_at(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NOATIME);
    walk(inner, usage);
    ::close(inner);
  }
}

}  // namespace

void list_layers(const Shape& shape) { read_layers(shape.entries); }

void check_layers(const Shape& shape) {
  const int held = lock(kOwn, LOCK_EX);
  const std::vector<std::string> ids = read_layers(shape.entries);
  for (const char* path : {".overlayfs/new", ".overlayfs/removed"}) {
    stat_directory(path);
    read_names(path);
  }
  read_links();
  std::vector<std::string> mounted;
  for (const std::string& id : ids) {
    must(-try_beneath(root(), id + "/merged"), "merged");
    const int work = try_beneath(root(), id + "/work");
    if (work >= 0) {
      struct stat st;
      if (::fstatat(work, "work", &st, kUnfollowed) == 0) mounted.push_back(id + "/work/work");
      ::close(work);
    }
    const int marker = try_beneath(root(), id + "/work/work/incompat");
    if (marker >= 0) ::close(marker);
  }
  for (const std::string& path : mounted) read_names(path);
  list_overlays();
  ::close(held);
}

void measure_layer(const Shape& shape) {
  const int directory = beneath(layer_name(shape.lowers - 1) + "/diff", kReadable);
  struct stat st;
  must(::fstatat(directory, "", &st, AT_EMPTY_PATH), "fstatat");
  Usage usage;
  usage.count(st);
  walk(directory, usage);
  ::close(directory);
  must(usage.inodes > static_cast<uint64_t>(shape.entries) ? 0 : (errno = ERANGE, -1), "files");
}

}  // namespace twin