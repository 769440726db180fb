#include <map>
#include <set>

#include "../core/directory_facts.h"
#include "../core/features.h"
#include "../core/xattr.h"
#include "layer_places.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

Napi::Value features_to_js(Napi::Env env, const KernelFeatures& features) {
  const auto string = [env](const std::string& text) { return Napi::String::New(env, text); };
  static constexpr const char* kLayerFds[] = {"none", "readable", "path"};
  auto js = Napi::Object::New(env);
  js.Set("fsopenErrno", -features.fsopen_error);
  js.Set("nativeParser", features.native_parser);
  js.Set("layerFds", kLayerFds[static_cast<int>(features.layer_fds)]);
  js.Set("lowerdirAppend", features.lowerdir_append);
  js.Set("detachedLayers", features.detached_layers);
  js.Set("statmount", features.statmount);
  js.Set("initialUserNamespace", features.initial_user_namespace);
  js.Set("sysAdmin", features.sys_admin);
  js.Set("options", array_to_js(env, features.options, string));
  js.Set("filtered", array_to_js(env, features.filtered, string));
  return js;
}

// One object for each mount, however many directories lie on it.
using MountObjects = std::map<const MountInfo*, Napi::Object>;

Napi::Value facts_to_js(Napi::Env env, const DirectoryFacts& facts, MountObjects& mounts) {
  auto js = Napi::Object::New(env);
  if (facts.error) {
    js.Set("error", error_to_js(env, *facts.error));
    return js;
  }
  js.Set("isDirectory", facts.is_directory);
  js.Set("searchable", facts.searchable);
  js.Set("device", Napi::BigInt::New(env, facts.identity.device));
  js.Set("inode", Napi::BigInt::New(env, facts.identity.inode));
  js.Set("links", facts.identity.links);
  js.Set("mountId", Napi::BigInt::New(env, facts.identity.mount_id));
  js.Set("fileSystem", static_cast<double>(facts.file_system));
  js.Set("readonly", facts.readonly);
  js.Set("trustedXattrErrno", -facts.trusted_xattr_error);
  js.Set("userXattrErrno", -facts.user_xattr_error);
  js.Set("volatileMarker", facts.volatile_marker);
  js.Set("canonicalPath", bytes_to_js(env, facts.canonical_path));
  if (facts.mount) {
    auto [entry, is_new] = mounts.try_emplace(facts.mount.get());
    if (is_new) entry->second = info_to_js(env, *facts.mount);
    js.Set("mount", entry->second);
  }
  return js;
}

Napi::Value all_facts_to_js(Napi::Env env, const std::vector<DirectoryFacts>& facts) {
  MountObjects mounts;
  return array_to_js(env, facts, [&](const DirectoryFacts& one) { return facts_to_js(env, one, mounts); });
}

TrialOption trial_option_from(const Napi::Value& value) {
  const std::vector<std::string> pair = each(value, text);
  return pair.size() == 2 ? TrialOption{pair[0], pair[1]} : TrialOption{};
}

}  // namespace

Napi::Value kernel_features_verb(const Napi::CallbackInfo& info) {
  return run(
      info.Env(), [] { return probe_kernel_features(); },
      [](Napi::Env env, const KernelFeatures& features) -> Settled {
        return {true, features_to_js(env, features)};
      });
}

Napi::Value try_create_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [options = each(info[0], trial_option_from), data_only = truth(info[1])] {
        return try_create(options, data_only);
      },
      [](Napi::Env env, int error) -> Napi::Value { return Napi::Number::New(env, -error); });
}

Napi::Value list_overlays_verb(const Napi::CallbackInfo& info) {
  struct Listing {
    std::vector<MountInfo> mounts;
    std::vector<DirectoryIdentity> own;
  };
  return run_result(
      info.Env(),
      [from_mountinfo = truth(info[0])]() -> Result<Listing> {
        return Listing{TRY(list_mounts("overlay", from_mountinfo)), live_mounts()};
      },
      [](Napi::Env env, const Listing& listing) -> Napi::Value {
        std::set<uint64_t> unique, reusable;
        for (const DirectoryIdentity& live : listing.own) {
          if (live.unique_mount_id) unique.insert(live.mount_id);
          reusable.insert(live.reusable_mount_id);
        }
        return array_to_js(env, listing.mounts, [&](const MountInfo& mount) {
          auto js = info_to_js(env, mount);
          js.Set("own", mount.unique_ids ? unique.contains(mount.id) : reusable.contains(mount.old_id));
          return js;
        });
      });
}

Napi::Value directory_facts_verb(const Napi::CallbackInfo& info) {
  return run(
      info.Env(), [refs = directories_from(info[0])] { return directory_facts(refs); },
      [](Napi::Env env, const std::vector<DirectoryFacts>& facts) -> Settled {
        return {true, all_facts_to_js(env, facts)};
      });
}

// The lowers, those that only hold data, the upper, the work directory.
Napi::Value layer_facts_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [layers = layers_of_walk(info[0])]() -> Result<std::vector<DirectoryFacts>> {
        if (!layers) return no_walk();
        std::vector<DirectoryRef> refs;
        const auto add = [&](const std::shared_ptr<const Fd>& layer) {
          if (layer) refs.push_back({{}, layer->get()});
        };
        for (size_t layer = 1; layer < layers->layers(); ++layer) add(layers->root_of(layer));
        add(layers->root_of(0));
        add(layers->work());
        return directory_facts(refs);
      },
      all_facts_to_js);
}

Napi::Value read_xattrs_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(), [path = bytes_from(info[0])] { return read_xattrs(path); }, xattrs_to_js);
}

}  // namespace overlayfs
