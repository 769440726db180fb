#include "../core/merged_view.h"

#include <cstring>

#include "../core/directory.h"
#include "../core/status.h"
#include "layer_places.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

using ViewPtr = std::shared_ptr<const MergedView>;

ViewPtr view_from(const Napi::Value& value) {
  if (!value.IsExternal()) return nullptr;
  return *value.As<Napi::External<ViewPtr>>().Data();
}

// Resolves with the value, or rejects with what failed and, where the kernel would refuse it, why.
template <class Work, class ToJs>
Napi::Value run_on_view(const Napi::CallbackInfo& info, Work work, ToJs to_js) {
  return run(
      info.Env(),
      [view = view_from(info[0]), path = bytes_from(info[1]), work = std::move(work)] {
        using Outcome = std::invoke_result_t<Work, const MergedView&, const std::string&>;
        if (view) return work(*view, path);
        return Outcome(SysError{EBADF, "lookup", "closed", path, {}});
      },
      [to_js = std::move(to_js)](Napi::Env env, auto& outcome) -> Settled {
        if (outcome.value) return {true, to_js(env, *std::move(outcome.value))};
        auto error = error_to_js(env, outcome.error);
        if (outcome.refused) error.Set("refused", refused_to_js(env, *outcome.refused));
        return {false, error};
      });
}

// What JavaScript reads back in lib/changes/merged-record.ts: little-endian, one after the other.
class Packed {
 public:
  template <class T>
  void number(T value) {
    static_assert(std::endian::native == std::endian::little);
    const char* bytes = reinterpret_cast<const char*>(&value);
    bytes_.append(bytes, sizeof value);
  }
  void text(const std::string& text) {
    number(static_cast<uint16_t>(text.size()));
    bytes_ += text;
  }
  void time(const abi::StatxTime& time) { number(time.sec * 1'000'000'000 + time.nsec); }
  void status(const abi::Statx& status) {
    number(uint32_t{status.mode});
    number(status.nlink);
    number(status.uid);
    number(status.gid);
    number(device_of(status));
    number(represented_device(status));
    number(status.ino);
    number(status.size);
    number(status.blocks);
    time(status.atime);
    time(status.mtime);
    time(status.ctime);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

}  // namespace

Napi::Value open_merged_view_verb(const Napi::CallbackInfo& info) {
  return run_on_layers(
      info.Env(), [stack = stack_from(info[0])] { return MergedLayers::open(stack); },
      [](MergedLayers& layers) -> Result<ViewPtr> {
        return std::make_shared<const MergedView>(std::move(layers));
      },
      [](Napi::Env env, ViewPtr view) -> Napi::Value {
        auto js = roots_to_js(env, roots_of(view->layers()));
        js.Set("view", owned_to_js(env, std::move(view)));
        return js;
      });
}

// Lets go of the layers; what is under way keeps them until it is done.
Napi::Value close_merged_view_verb(const Napi::CallbackInfo& info) {
  info[0].As<Napi::External<ViewPtr>>().Data()->reset();
  return info.Env().Undefined();
}

Napi::Value merged_list_verb(const Napi::CallbackInfo& info) {
  const bool with_status = truth(info[2]);
  return run_on_view(
      info,
      [with_status](const MergedView& view, const std::string& path) -> Viewed<std::string> {
        auto listed = view.list(path, with_status);
        if (!listed.value) return {std::move(listed.error), std::move(listed.refused)};
        Packed packed;
        for (const ListedName& entry : *listed.value) {
          packed.number(uint8_t{entry.type});
          packed.number(static_cast<int32_t>(-entry.err));
          packed.text(entry.name);
          if (with_status) packed.status(entry.status);
        }
        return packed.bytes();
      },
      bytes_to_js);
}

Napi::Value merged_stat_verb(const Napi::CallbackInfo& info) {
  return run_on_view(
      info, [](const MergedView& view, const std::string& path) { return view.status(path); },
      [](Napi::Env env, const abi::Statx& status) -> Napi::Value {
        Packed packed;
        packed.status(status);
        return bytes_to_js(env, packed.bytes());
      });
}

Napi::Value merged_open_verb(const Napi::CallbackInfo& info) {
  return run_on_view(
      info, [](const MergedView& view, const std::string& path) { return view.open(path); },
      [](Napi::Env env, Fd fd) -> Napi::Value { return opened_to_js(env, std::move(fd)); });
}

Napi::Value merged_link_verb(const Napi::CallbackInfo& info) {
  return run_on_view(
      info, [](const MergedView& view, const std::string& path) { return view.link_target(path); },
      bytes_to_js);
}

Napi::Value merged_xattrs_verb(const Napi::CallbackInfo& info) {
  return run_on_view(
      info, [](const MergedView& view, const std::string& path) { return view.xattrs(path); }, xattrs_to_js);
}

}  // namespace overlayfs
