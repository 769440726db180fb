#include "store.h"

#include "store_files.h"

namespace twin {
namespace {

constexpr const char* kNew = ".overlayfs/new/raw";
constexpr const char* kRemoved = ".overlayfs/removed/raw";
constexpr const char* kLink = "RAWRAWRAWRAWRAWRAWRAWRAWRA";
const std::string kContainer(64, 'e');

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

}  // namespace twin
