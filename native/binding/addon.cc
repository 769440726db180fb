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
  verb("openMountedCopyUp", open_mounted_copy_up_verb);
  verb("nextMountedCopyUp", next_mounted_copy_up_verb);
  verb("closeMountedCopyUp", close_mounted_copy_up_verb);
  verb("rename", rename_verb);
  verb("newProgress", new_progress_verb);
  verb("readProgress", read_progress_verb);
  verb("openDirectories", open_directories_verb);
  verb("closeDirectories", close_directories_verb);
  verb("createWhiteouts", create_whiteouts_verb);
  verb("whiteoutForms", whiteout_forms_verb);
  verb("removeWhiteouts", remove_whiteouts_verb);
  verb("renameWithWhiteout", rename_with_whiteout_verb);
  verb("setOpaque", set_opaque_verb);
  verb("clearOpaque", clear_opaque_verb);
  verb("opaqueForms", opaque_forms_verb);
  verb("readOverlayXattrs", read_overlay_xattrs_verb);
  verb("writeOverlayXattrs", write_overlay_xattrs_verb);
  verb("stripOverlayXattrs", strip_overlay_xattrs_verb);
  verb("decodeOverlayXattr", decode_overlay_xattr_verb);
  verb("upperInUse", upper_in_use_verb);
  verb("whichLayer", which_layer_verb);
  verb("startCopyUp", start_copy_up_verb);
  verb("nextCopyUp", next_copy_up_verb);
  verb("closeCopyUp", close_copy_up_verb);
  verb("openMergedView", open_merged_view_verb);
  verb("closeMergedView", close_merged_view_verb);
  verb("mergedList", merged_list_verb);
  verb("mergedStat", merged_stat_verb);
  verb("mergedOpen", merged_open_verb);
  verb("mergedLink", merged_link_verb);
  verb("mergedXattrs", merged_xattrs_verb);
  verb("openChanges", open_changes_verb);
  verb("nextChanges", next_changes_verb);
  verb("openChangeSource", open_change_source_verb);
  verb("cancelChanges", cancel_changes_verb);
  verb("endChanges", end_changes_verb);
  verb("closeChanges", close_changes_verb);
  verb("newCancel", new_cancel_verb);
  verb("cancel", cancel_verb);
  verb("directoryInUse", directory_in_use_verb);
  verb("overlaysElsewhere", overlays_elsewhere_verb);
  verb("liveLayers", live_layers_verb);
  verb("layerFacts", layer_facts_verb);
  verb("openApply", open_apply_verb);
  verb("applyCheck", apply_check_verb);
  verb("applyDecide", apply_decide_verb);
  verb("applyRun", apply_run_verb);
  verb("applyProgress", apply_progress_verb);
  verb("closeApply", close_apply_verb);
  verb("runStoreSteps", run_store_steps_verb);
  verb("lockInStore", lock_in_store_verb);
  verb("readStore", read_store_verb);
  verb("readStoreNames", read_store_names_verb);
  verb("fileLock", file_lock_verb);
  verb("copyLayer", copy_layer_verb);
  verb("linkMerged", link_merged_verb);
  verb("measureLayer", measure_layer_verb);
#ifdef OVERLAYFS_FAULTS
  verb("planFault", plan_fault_verb);
  verb("clearFaults", clear_faults_verb);
#endif
  return exports;
}

NODE_API_MODULE(overlayfs, init)

}  // namespace overlayfs
