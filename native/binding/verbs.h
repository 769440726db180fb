// Every function that the addon exports, by the file that holds it; addon.cc gives them their JavaScript
// names.
#pragma once

#include <napi.h>

namespace overlayfs {

// mount.cc
Napi::Value mount_overlay_verb(const Napi::CallbackInfo& info);
Napi::Value layers_verb(const Napi::CallbackInfo& info);  // synchronous
Napi::Value attach_verb(const Napi::CallbackInfo& info);
Napi::Value remount_verb(const Napi::CallbackInfo& info);
Napi::Value remount_target_verb(const Napi::CallbackInfo& info);

// unmount.cc
Napi::Value unmount_verb(const Napi::CallbackInfo& info);
Napi::Value unmount_target_verb(const Napi::CallbackInfo& info);
Napi::Value unmount_by_id_verb(const Napi::CallbackInfo& info);
Napi::Value unmount_now_verb(const Napi::CallbackInfo& info);  // synchronous: for signal handlers
Napi::Value close_gate_verb(const Napi::CallbackInfo& info);   // synchronous: for the exit event

// inspect.cc
Napi::Value kernel_features_verb(const Napi::CallbackInfo& info);
Napi::Value try_create_verb(const Napi::CallbackInfo& info);
Napi::Value list_overlays_verb(const Napi::CallbackInfo& info);
Napi::Value directory_facts_verb(const Napi::CallbackInfo& info);
Napi::Value read_xattrs_verb(const Napi::CallbackInfo& info);

// holders.cc
Napi::Value holders_verb(const Napi::CallbackInfo& info);

// rehearse.cc
Napi::Value rehearse_verb(const Napi::CallbackInfo& info);
Napi::Value try_options_verb(const Napi::CallbackInfo& info);
Napi::Value probe_directory_verb(const Napi::CallbackInfo& info);
Napi::Value try_user_namespace_verb(const Napi::CallbackInfo& info);
Napi::Value mounts_below_verb(const Napi::CallbackInfo& info);

// files.cc
Napi::Value open_in_root_verb(const Napi::CallbackInfo& info);
Napi::Value close_opened_verb(const Napi::CallbackInfo& info);  // synchronous

// layers.cc
Napi::Value open_directories_verb(const Napi::CallbackInfo& info);
Napi::Value close_directories_verb(const Napi::CallbackInfo& info);  // synchronous

// cancel.cc, synchronous
Napi::Value new_cancel_verb(const Napi::CallbackInfo& info);
Napi::Value cancel_verb(const Napi::CallbackInfo& info);

#ifdef OVERLAYFS_FAULTS
// fault.cc, in the test build only
Napi::Value plan_fault_verb(const Napi::CallbackInfo& info);
Napi::Value clear_faults_verb(const Napi::CallbackInfo& info);
#endif

}  // namespace overlayfs
