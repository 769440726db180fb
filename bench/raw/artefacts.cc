#include "artefacts.h"

#include "kernel.h"

namespace twin {
namespace {

constexpr const char* kAttribute = "trusted.overlay.origin";
constexpr uint64_t kBeneath = abi::RESOLVE_BENEATH | abi::RESOLVE_NO_SYMLINKS | abi::RESOLVE_NO_XDEV;

char name[64], link[64], names[512], value[512];

int beneath(int layer, const char* path, uint64_t flags) {
  const abi::OpenHow how{flags | O_PATH | O_CLOEXEC, 0, kBeneath};
  return static_cast<int>(must(syscall(abi::SYS_OPENAT2, layer, path, &how, sizeof how), path));
}

void link_to(int fd) { std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd); }

template <class Call>
void in_directory(Call call) {
  const int layer = open_path("u0"), directory = beneath(layer, "raw", O_DIRECTORY);
  link_to(directory);
  ::getxattr(link, "trusted.overlay.opaque", value, sizeof value);
  for (int i = 0; i < kNames; ++i) {
    std::snprintf(name, sizeof name, "%d", i);
    call(directory);
  }
  ::close(directory);
  ::close(layer);
}

template <class Call>
void of_each_file(Call call) {
  const int layer = open_path("u0");
  for (int i = 0; i < kNames; ++i) {
    std::snprintf(name, sizeof name, "files/%d", i);
    const int file = beneath(layer, name, O_NOFOLLOW);
    link_to(file);
    call();
    ::close(file);
  }
  ::close(layer);
}

}  // namespace

void make_whiteouts() {
  in_directory([](int directory) { must(::mknodat(directory, name, S_IFCHR, 0), name); });
}

void remove_whiteouts() {
  in_directory([](int directory) { must(::unlinkat(directory, name, 0), name); });
}

void set_attributes() {
  of_each_file([] { must(::setxattr(link, kAttribute, "", 0, 0), "setxattr"); });
}

void get_attributes() {
  of_each_file([] {
    must(::listxattr(link, names, sizeof names), "listxattr");
    must(::getxattr(link, kAttribute, value, sizeof value), "getxattr");
  });
}

}  // namespace twin
