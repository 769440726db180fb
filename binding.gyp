# The release build. native/CMakeLists.txt is the developers' build; a test compares the two lists of sources.
{
  "targets": [
    {
      "target_name": "overlayfs",
      "conditions": [
        ["OS!='linux'", { "type": "none" }, {
          "include_dirs": ["native", "<!(node -p \"require('node-addon-api').include_dir\")"],
          "defines": [
            "NAPI_VERSION=9",
            "NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS",
            # An ending worker must not abort the process.
            "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
          ],
          # RTTI: without it std::make_shared needs a newer C++ library than Node does.
          "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti"],
          # -Wno-restrict: GCC 12 sees an overlap inside std::string itself (GCC bug 105651).
          "cflags_cc": [
            "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-restrict", "-fvisibility=hidden"
          ],
          # nodelete: Node unmaps an addon with the last worker that has loaded it, and our threads are still in it.
          "ldflags": ["-Wl,--version-script=../native/exports.map", "-Wl,-z,nodelete"],
          "sources": [
            "native/binding/addon.cc",
            "native/binding/cancel.cc",
            "native/binding/exit_gate.cc",
            "native/binding/files.cc",
            "native/binding/holders.cc",
            "native/binding/inspect.cc",
            "native/binding/layers.cc",
            "native/binding/mount.cc",
            "native/binding/rehearse.cc",
            "native/binding/threads.cc",
            "native/binding/unmount.cc",
            "native/binding/values.cc",
            "native/core/beneath.cc",
            "native/core/directory.cc",
            "native/core/directory_facts.cc",
            "native/core/directory_probe.cc",
            "native/core/features.cc",
            "native/core/file_handle.cc",
            "native/core/fs_context.cc",
            "native/core/holders.cc",
            "native/core/in_use.cc",
            "native/core/layer_check.cc",
            "native/core/mount_ids.cc",
            "native/core/mount_info.cc",
            "native/core/mount_tree.cc",
            "native/core/overlay_create.cc",
            "native/core/overlay_mount.cc",
            "native/core/overlay_strings.cc",
            "native/core/overlay_unmount.cc",
            "native/core/proc.cc",
            "native/core/rehearse.cc",
            "native/core/scratch.cc",
            "native/core/sys.cc",
            "native/core/work_directory.cc",
            "native/core/xattr.cc"
          ]
        }]
      ]
    }
  ]
}
