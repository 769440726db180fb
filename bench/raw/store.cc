#include "store.h"

#include "inspect.h"
#include "kernel.h"

// After kernel.h: it defines CTIME.
#include <dirent.h>

namespace twin {
namespace {

constexpr uint64_t kBeneath = abi::RESOLVE_BENEATH | abi::RESOLVE_NO_SYMLINKS | abi::RESOLVE_NO_XDEV;
constexpr int kUnfollowed = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
constexpr const char* kOwn = ".overlayfs";
constexpr const char* kNew = ".overlayfs/new/raw";
constexpr const char* kRemoved = ".overlayfs/removed/raw";
constexpr const char* kLink = "RAWRAWRAWRAWRAWRAWRAWRAWRA";
const std::string kContainer(64, 'e');

struct Dirent64 {
  uint64_t ino;
  int64_t off;
  uint16_t reclen;
  uint8_t type;
  char name[];
};

int root() {
  static const int opened = open_path(".");
  return opened;
}

std::string layer_name(int index) {
  char name[65];
  std::snprintf(name, sizeof name, "%064d", index);
  return name;
}

constexpr uint64_t kPath = O_PATH | O_DIRECTORY, kReadable = O_RDONLY | O_DIRECTORY;

int try_beneath(int directory, const std::string& path, uint64_t flags = kPath) {
  const abi::OpenHow how{flags | O_CLOEXEC, 0, kBeneath};
  return static_cast<int>(syscall(abi::SYS_OPENAT2, directory, path.c_str(), &how, sizeof how));
}
int beneath(const std::string& path, uint64_t flags = kPath) {
  return static_cast<int>(must(try_beneath(root(), path, flags), path.c_str()));
}

// The directory that a path lies in, and its name there.
struct Place {
  explicit Place(const std::string& path) {
    const size_t slash = path.rfind('/');
    name = slash == std::string::npos ? path : path.substr(slash + 1);
    parent = beneath(slash == std::string::npos ? "." : path.substr(0, slash));
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() { ::close(parent); }

  int parent;
  std::string name;
};

std::string read_file(int parent, const char* name) {
  static char buffer[65536];
  constexpr int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  const int file = static_cast<int>(must(::openat(parent, name, flags), name));
  std::string bytes;
  while (const long size = must(::read(file, buffer, sizeof buffer), name))
    bytes.append(buffer, static_cast<size_t>(size));
  ::close(file);
  return bytes;
}

std::string look(int parent, const char* name) {
  struct stat st;
  if (::fstatat(parent, name, &st, kUnfollowed) != 0) return {};
  if (S_ISREG(st.st_mode) && st.st_size != 0) return read_file(parent, name);
  if (!S_ISLNK(st.st_mode)) return {};
  char target[4096];
  return {target, static_cast<size_t>(must(::readlinkat(parent, name, target, sizeof target), name))};
}

// What `link` and `lower` say is what a layer on top of it needs.
struct Layer {
  explicit Layer(const std::string& id) {
    const int directory = try_beneath(root(), id);
    if (directory < 0) return;
    for (const char* name : {"diff", "lower-layers", "committed", "empty", "work", "overlayfs.json"})
      look(directory, name);
    link = look(directory, "link");
    lower = look(directory, "lower");
    ::close(directory);
  }

  std::string link, lower;
};

int lock(const std::string& path, int kind) {
  const int locked = beneath(path, kReadable);
  must(::flock(locked, kind | LOCK_NB), "flock");
  const int named = beneath(path);
  identify(locked);
  identify(named);
  ::close(named);
  return locked;
}

void make_directory(const std::string& path, mode_t mode) {
  const Place place(path);
  must(::mkdirat(place.parent, place.name.c_str(), mode), path.c_str());
  struct stat st;
  must(::fstatat(place.parent, place.name.c_str(), &st, AT_SYMLINK_NOFOLLOW), "fstatat");
}

void write_file(const std::string& path, const std::string& content, mode_t mode) {
  const Place place(path);
  constexpr int flags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC;
  const int file =
      static_cast<int>(must(::openat(place.parent, place.name.c_str(), flags, mode), path.c_str()));
  must(::fchmod(file, mode), "fchmod");
  must(::write(file, content.data(), content.size()), "write");
  ::close(file);
}

void rename_to(const std::string& path, const std::string& other) {
  const Place from(path), to(other);
  must(syscall(SYS_renameat2, from.parent, from.name.c_str(), to.parent, to.name.c_str(),
               abi::rename_flag::NOREPLACE),
       "renameat2");
}

std::string sidecar(int layers) {
  std::string chain;
  for (int i = layers; i-- > 0;) chain += (chain.empty() ? "\"" : ",\"") + layer_name(i) + '"';
  return R"({"version":1,"driver":"overlay2","id":")" + kContainer + R"(","kind":"container","chain":[)" +
         chain + R"(],"state":"empty","durability":"none","bootId":"00000000-0000-0000-0000-000000000000"})" +
         "\n";
}

void create_container(int layers) {
  const Layer nobody(kContainer), parent(layer_name(layers - 1));
  const int locks[] = {lock(kOwn, LOCK_SH), lock(layer_name(layers - 1), LOCK_SH)};
  const std::string at = kNew, lower = parent.lower.empty() ? "" : ":" + parent.lower;
  make_directory(at, 0710);
  make_directory(at + "/diff", 0755);
  write_file(at + "/link", kLink, 0644);
  make_directory(at + "/work", 0700);
  write_file(at + "/lower", "l/" + parent.link + lower, 0644);
  write_file(at + "/overlayfs.json", sidecar(layers), 0600);
  const int expected = beneath(layer_name(layers - 1) + "/link", O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
  char link[4096];
  while (must(::read(expected, link, sizeof link), "link") > 0) continue;
  ::close(expected);
  {
    const Place place(std::string("l/") + kLink);
    must(::symlinkat(("../" + kContainer + "/diff").c_str(), place.parent, kLink), "symlinkat");
  }
  rename_to(at, kContainer);
  for (const int held : locks) ::close(held);
}

// What mount_overlay() is given.
Room room_of(int layers) {
  char path[4096];
  must(::getcwd(path, sizeof path) == nullptr ? -1 : 0, "getcwd");
  const auto in_root = [&](const std::string& name) { return std::string(path) + "/" + name; };
  Shape empty;
  empty.lowers = empty.count = 0;
  Room room({}, empty);
  for (int i = layers; i-- > 0;) room.lowers.push_back(in_root(layer_name(i) + "/diff"));
  room.uppers.push_back(in_root(kContainer + "/diff"));
  room.works.push_back(in_root(kContainer + "/work"));
  room.targets.push_back(in_root(kContainer + "/merged"));
  return room;
}

Live mount_container(const Room& room, const Shape& shape) {
  const int held = lock(kContainer, LOCK_SH);
  const Layer layer(kContainer);
  must(-try_beneath(root(), kContainer + "/merged"), "merged");
  struct stat st;
  for (int i = shape.lowers; i-- > 0;) {
    const Place place(layer_name(i) + "/diff");
    must(::fstatat(place.parent, "diff", &st, kUnfollowed), "diff");
  }
  {
    const Place place(kContainer + "/diff");
    must(::fstatat(place.parent, "diff", &st, kUnfollowed), "diff");
    must(::fstatat(place.parent, "work", &st, kUnfollowed), "work");
  }
  must(::mkdirat(AT_FDCWD, room.targets[0].c_str(), 0700), "merged");
  const int merged = open_path(room.targets[0].c_str());
  identify(merged);
  ::close(merged);
  const Live live = mount_overlay(room, shape, 0);
  ::close(held);
  return live;
}

void unmount_container(const Room& room, const Shape& shape, Live& live) {
  unmount_overlay(room, shape, 0, live);
  const int merged = step_down(AT_FDCWD, room.targets[0].c_str());
  identify(merged);
  must(::unlinkat(AT_FDCWD, room.targets[0].c_str(), AT_REMOVEDIR), "merged");
  ::close(merged);
}

template <class Each>
void each_entry(int directory, size_t room, Each each) {
  static char buffer[65536];
  while (const long size = must(syscall(SYS_getdents64, directory, buffer, room), "getdents64")) {
    for (long at = 0; at < size;) {
      const auto& entry = *reinterpret_cast<const Dirent64*>(buffer + at);
      at += entry.reclen;
      if (std::strcmp(entry.name, ".") != 0 && std::strcmp(entry.name, "..") != 0) each(entry);
    }
  }
}

std::vector<std::string> names_in(int directory) {
  std::vector<std::string> names;
  each_entry(directory, 32768, [&](const Dirent64& entry) { names.emplace_back(entry.name); });
  return names;
}

// Directories that hold something are moved up to the top, as the package does.
void remove_tree(const Place& place) {
  must(-::unlinkat(place.parent, place.name.c_str(), 0), "a directory");
  const int top = static_cast<int>(must(try_beneath(place.parent, place.name, kReadable), "removed"));
  std::vector<std::string> waiting;
  const auto empty = [&](int directory) {
    for (const std::string& name : names_in(directory)) {
      if (::unlinkat(directory, name.c_str(), 0) == 0) continue;
      if (::unlinkat(directory, name.c_str(), AT_REMOVEDIR) == 0) continue;
      waiting.push_back("#" + std::to_string(waiting.size()));
      must(syscall(SYS_renameat2, directory, name.c_str(), top, waiting.back().c_str(),
                   abi::rename_flag::NOREPLACE),
           "renameat2");
    }
  };
  empty(top);
  for (size_t i = 0; i < waiting.size(); ++i) {
    const int inner = static_cast<int>(must(try_beneath(top, waiting[i], kReadable), "#"));
    empty(inner);
    must(::unlinkat(top, waiting[i].c_str(), AT_REMOVEDIR), "#");
    ::close(inner);
  }
  must(::unlinkat(place.parent, place.name.c_str(), AT_REMOVEDIR), "removed");
  ::close(top);
}

void remove_container() {
  const int held = lock(kContainer, LOCK_EX);
  const Layer layer(kContainer);
  must(-try_beneath(root(), kContainer + "/merged"), "merged");
  const int content = beneath(kContainer + "/diff");
  identify(content);
  probe_in_use(content);
  ::close(content);

  const int own = lock(kOwn, LOCK_SH);
  rename_to(kContainer, kRemoved);
  {
    const Place link(std::string("l/") + kLink);
    must(::unlinkat(link.parent, kLink, 0), "link");
  }
  ::close(own);
  remove_tree(Place(kRemoved));
  ::close(held);
}

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

void live_container(const Shape& shape) {
  static const Room room = room_of(shape.lowers);
  Shape writable = shape;
  writable.writable = writable.probe = true;
  create_container(shape.lowers);
  Live live = mount_container(room, writable);
  unmount_container(room, writable, live);
  remove_container();
}

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
