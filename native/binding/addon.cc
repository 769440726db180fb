// The addon: every export, once, under its JavaScript name. lib/native/binding.ts is the same list with
// types.
#include <napi.h>

#include "exit_gate.h"
#include "verbs.h"

namespace overlayfs {

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  ExitGate::install(env);
  const auto verb = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  verb("mountOverlay", mount_overlay_verb);
  verb("layers", layers_verb);
  verb("attach", attach_verb);
  verb("remount", remount_verb);
  verb("remountTarget", remount_target_verb);
  verb("unmount", unmount_verb);
  verb("unmountTarget", unmount_target_verb);
  verb("unmountById", unmount_by_id_verb);
  verb("unmountNow", unmount_now_verb);
  verb("closeGate", close_gate_verb);
  verb("kernelFeatures", kernel_features_verb);
  verb("tryCreate", try_create_verb);
  verb("listOverlays", list_overlays_verb);
  verb("directoryFacts", directory_facts_verb);
  verb("readXattrs", read_xattrs_verb);
  verb("holders", holders_verb);
  verb("rehearse", rehearse_verb);
  verb("tryOptions", try_options_verb);
  verb("probeDirectory", probe_directory_verb);
  verb("tryUserNamespace", try_user_namespace_verb);
  verb("mountsBelow", mounts_below_verb);
  verb("openInRoot", open_in_root_verb);
  verb("closeOpened", close_opened_verb);
  verb("openDirectories", open_directories_verb);
  verb("closeDirectories", close_directories_verb);
  verb("newCancel", new_cancel_verb);
  verb("cancel", cancel_verb);
#ifdef OVERLAYFS_FAULTS
  verb("planFault", plan_fault_verb);
  verb("clearFaults", clear_faults_verb);
#endif
  return exports;
}

NODE_API_MODULE(overlayfs, init)

}  // namespace overlayfs
