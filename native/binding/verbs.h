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
Napi::Value layer_facts_verb(const Napi::CallbackInfo& info);
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

// mounted_copy_up.cc
Napi::Value open_mounted_copy_up_verb(const Napi::CallbackInfo& info);
Napi::Value next_mounted_copy_up_verb(const Napi::CallbackInfo& info);
Napi::Value close_mounted_copy_up_verb(const Napi::CallbackInfo& info);  // synchronous

// rename.cc
Napi::Value rename_verb(const Napi::CallbackInfo& info);

// progress.cc, synchronous
Napi::Value new_progress_verb(const Napi::CallbackInfo& info);
Napi::Value read_progress_verb(const Napi::CallbackInfo& info);

// layers.cc
Napi::Value open_directories_verb(const Napi::CallbackInfo& info);
Napi::Value close_directories_verb(const Napi::CallbackInfo& info);  // synchronous

// artefacts.cc
Napi::Value create_whiteouts_verb(const Napi::CallbackInfo& info);
Napi::Value whiteout_forms_verb(const Napi::CallbackInfo& info);
Napi::Value remove_whiteouts_verb(const Napi::CallbackInfo& info);
Napi::Value rename_with_whiteout_verb(const Napi::CallbackInfo& info);
Napi::Value set_opaque_verb(const Napi::CallbackInfo& info);
Napi::Value clear_opaque_verb(const Napi::CallbackInfo& info);
Napi::Value opaque_forms_verb(const Napi::CallbackInfo& info);
Napi::Value read_overlay_xattrs_verb(const Napi::CallbackInfo& info);
Napi::Value write_overlay_xattrs_verb(const Napi::CallbackInfo& info);
Napi::Value strip_overlay_xattrs_verb(const Napi::CallbackInfo& info);
Napi::Value decode_overlay_xattr_verb(const Napi::CallbackInfo& info);  // synchronous
Napi::Value upper_in_use_verb(const Napi::CallbackInfo& info);
// which_layer.cc
Napi::Value which_layer_verb(const Napi::CallbackInfo& info);
// copy_up.cc
Napi::Value start_copy_up_verb(const Napi::CallbackInfo& info);
Napi::Value next_copy_up_verb(const Napi::CallbackInfo& info);
Napi::Value close_copy_up_verb(const Napi::CallbackInfo& info);

// merged_view.cc
Napi::Value open_merged_view_verb(const Napi::CallbackInfo& info);
Napi::Value close_merged_view_verb(const Napi::CallbackInfo& info);  // synchronous
Napi::Value merged_list_verb(const Napi::CallbackInfo& info);
Napi::Value merged_stat_verb(const Napi::CallbackInfo& info);
Napi::Value merged_open_verb(const Napi::CallbackInfo& info);
Napi::Value merged_link_verb(const Napi::CallbackInfo& info);
Napi::Value merged_xattrs_verb(const Napi::CallbackInfo& info);

// changes.cc
Napi::Value open_changes_verb(const Napi::CallbackInfo& info);
Napi::Value next_changes_verb(const Napi::CallbackInfo& info);
Napi::Value open_change_source_verb(const Napi::CallbackInfo& info);
Napi::Value end_changes_verb(const Napi::CallbackInfo& info);
Napi::Value close_changes_verb(const Napi::CallbackInfo& info);
Napi::Value cancel_changes_verb(const Napi::CallbackInfo& info);  // synchronous

// cancel.cc, synchronous
Napi::Value new_cancel_verb(const Napi::CallbackInfo& info);
Napi::Value cancel_verb(const Napi::CallbackInfo& info);

// in_use.cc
Napi::Value directory_in_use_verb(const Napi::CallbackInfo& info);
Napi::Value overlays_elsewhere_verb(const Napi::CallbackInfo& info);
Napi::Value live_layers_verb(const Napi::CallbackInfo& info);  // synchronous

// apply.cc
Napi::Value open_apply_verb(const Napi::CallbackInfo& info);
Napi::Value apply_check_verb(const Napi::CallbackInfo& info);
Napi::Value apply_decide_verb(const Napi::CallbackInfo& info);
Napi::Value apply_run_verb(const Napi::CallbackInfo& info);
Napi::Value apply_progress_verb(const Napi::CallbackInfo& info);  // synchronous
Napi::Value close_apply_verb(const Napi::CallbackInfo& info);     // synchronous

// store.cc
Napi::Value run_store_steps_verb(const Napi::CallbackInfo& info);
Napi::Value lock_in_store_verb(const Napi::CallbackInfo& info);
Napi::Value read_store_verb(const Napi::CallbackInfo& info);
Napi::Value read_store_names_verb(const Napi::CallbackInfo& info);
Napi::Value file_lock_verb(const Napi::CallbackInfo& info);
Napi::Value copy_layer_verb(const Napi::CallbackInfo& info);
Napi::Value link_merged_verb(const Napi::CallbackInfo& info);
Napi::Value measure_layer_verb(const Napi::CallbackInfo& info);

#ifdef OVERLAYFS_FAULTS
// fault.cc, in the test build only
Napi::Value plan_fault_verb(const Napi::CallbackInfo& info);
Napi::Value clear_faults_verb(const Napi::CallbackInfo& info);
#endif

}  // namespace overlayfs
