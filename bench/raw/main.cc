// twin <verb> <room> [--lowers=N] [--count=N] [--threads=N] [--writable] [--probe] [--volatile] [--scratch] [--detached]
//   [--entries=N] [--changes=N] [--renames]
// For each line on standard input it does the verb once, and answers with the nanoseconds that this took: the
// line "mount" or "unmount" does that half only. It times itself, so the pipe costs it nothing.
#include <chrono>
#include <functional>
#include <string_view>

#include "artefacts.h"
#include "changes.h"
#include "copy_up.h"
#include "handoff.h"
#include "holders.h"
#include "inspect.h"
#include "kernel.h"
#include "mounted_copy_up.h"
#include "overlay.h"
#include "store.h"

namespace {

twin::Shape parse_shape(int count, char** arguments) {
  twin::Shape shape;
  for (int i = 0; i < count; ++i) {
    const std::string_view flag = arguments[i];
    const auto number = [&] { return std::atoi(flag.data() + flag.find('=') + 1); };
    if (flag.starts_with("--lowers="))
      shape.lowers = number();
    else if (flag.starts_with("--count="))
      shape.count = number();
    else if (flag.starts_with("--threads="))
      shape.threads = number();
    else if (flag.starts_with("--entries="))
      shape.entries = number();
    else if (flag.starts_with("--changes="))
      shape.changes = number();
    else if (flag == "--renames")
      shape.renames = true;
    else if (flag == "--writable")
      shape.writable = true;
    else if (flag == "--probe")
      shape.probe = true;
    else if (flag == "--volatile")
      shape.is_volatile = true;
    else if (flag == "--scratch")
      shape.scratch = true;
    else if (flag == "--detached")
      shape.detached = true;
    else
      twin::must((errno = EINVAL, -1), arguments[i]);
  }
  return shape;
}

// A verb in two halves, each done for every one of the row's mounts.
struct Verb {
  std::function<void(size_t)> mount, unmount;
};

Verb find_verb(std::string_view name, const twin::Room& room, const twin::Shape& shape) {
  const auto nothing = [](size_t) {};
  if (name == "overlay") {
    static std::vector<twin::Live> live(static_cast<size_t>(shape.count));
    return {[&](size_t i) { live[i] = twin::mount_overlay(room, shape, i); },
            [&](size_t i) { twin::unmount_overlay(room, shape, i, live[i]); }};
  }
  if (name == "mount") {
    static std::vector<int> works;
    for (const std::string& work : room.works) {
      if (shape.is_volatile) works.push_back(twin::open_path(work.c_str()));
    }
    return {[&](size_t i) {
              if (shape.is_volatile) twin::clear_volatile_marker(works[i]);
              twin::mount_by_string(room, shape, i);
            },
            [&](size_t i) { twin::unmount(room.targets[i].c_str()); }};
  }
  if (name == "probe") {
    static const int upper = twin::open_path(room.uppers[0].c_str()),
                     work = twin::open_path(room.works[0].c_str());
    return {[](size_t) { twin::probe_in_use(upper, work); }, nothing};
  }
  if (name == "holders") return {[&](size_t i) { twin::count_holders(room.targets[i].c_str()); }, nothing};
  if (name == "copy-up") return {[&](size_t) { twin::copy_up(shape.threads); }, nothing};
  if (name == "copy-up-mounted") return {[&](size_t i) { twin::copy_up_through(room.targets[i].c_str()); }, nothing};
  if (name == "changes") return {[&](size_t) { twin::walk_changes(shape); }, nothing};
  if (name == "changes-lower") return {[&](size_t) { twin::make_lower(shape); }, nothing};
  if (name == "changes-made") return {[&](size_t) { twin::make_changes(shape); }, nothing};
  if (name == "list") return {[](size_t) { twin::list_overlays(); }, nothing};
  if (name == "doctor") return {[&](size_t) { twin::examine(room); }, nothing};
  if (name == "whiteouts")
    return {[](size_t) { twin::make_whiteouts(); }, [](size_t) { twin::remove_whiteouts(); }};
  if (name == "set-xattrs") return {[](size_t) { twin::set_attributes(); }, nothing};
  if (name == "get-xattrs") return {[](size_t) { twin::get_attributes(); }, nothing};
  if (name == "store-container") return {[&](size_t) { twin::live_container(shape); }, nothing};
  if (name == "store-list") return {[&](size_t) { twin::list_layers(shape); }, nothing};
  if (name == "store-check") return {[&](size_t) { twin::check_layers(shape); }, nothing};
  if (name == "store-usage") return {[&](size_t) { twin::measure_layer(shape); }, nothing};
  if (name == "handoff") return {[](size_t) { twin::hand_over(); }, nothing};
  twin::must((errno = EINVAL, -1), "verb");
  return {};
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 2;
  const twin::Shape shape = parse_shape(count - 3, arguments + 3);
  twin::must(::chdir(arguments[2]), "chdir");
  const twin::Room room(arguments[2], shape);
  const Verb verb = find_verb(arguments[1], room, shape);
  const auto each = [&](const std::function<void(size_t)>& half) {
    for (size_t i = 0; i < static_cast<size_t>(shape.count); ++i) half(i);
  };

  char line[64];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    const std::string_view half = line;
    const auto start = std::chrono::steady_clock::now();
    if (half != "unmount\n") each(verb.mount);
    if (half != "mount\n") each(verb.unmount);
    const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - start;
    std::printf("%lld\n", static_cast<long long>(took.count()));
    std::fflush(stdout);
  }
}
