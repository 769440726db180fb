#include "../core/directory.h"
#include "../core/in_use.h"
#include "../core/layer_xattr.h"
#include "../core/opaque.h"
#include "../core/whiteout.h"
#include "promise.h"
#include "verbs.h"

namespace overlayfs {
namespace {

// Values in one buffer, each behind its length (u32, little-endian).
std::vector<std::string> values_from(const Napi::Value& value) {
  const std::string packed = bytes_from(value);
  std::vector<std::string> values;
  for (size_t at = 0; at + 4 <= packed.size();) {
    size_t size = 0;
    for (size_t i = 0; i < 4; ++i) size |= size_t{static_cast<unsigned char>(packed[at + i])} << (8 * i);
    if (size > packed.size() - at - 4) break;
    values.push_back(packed.substr(at + 4, size));
    at += 4 + size;
  }
  return values;
}

Napi::Object failure_to_js(Napi::Env env, const BatchError& failure) {
  auto js = error_to_js(env, failure.error);
  js.Set("index", static_cast<double>(failure.index));
  js.Set("refusal", refusal_name(failure.refusal));
  if (!failure.path.empty()) js.Set("below", bytes_to_js(env, failure.path));
  return js;
}

Napi::Object batch_to_js(Napi::Env env, const Batch& batch) {
  auto js = Napi::Object::New(env);
  js.Set("outcomes", bytes_to_js(env, batch.outcomes));
  if (batch.failure) js.Set("failure", failure_to_js(env, *batch.failure));
  return js;
}

// A verb on paths of one layer: rejects where the layer cannot be opened; what becomes of the paths is its
// value.
template <class Work, class ToJs>
Napi::Value in_layer(const Napi::CallbackInfo& info, Work work, ToJs to_js) {
  using Value = decltype(work(0));
  return run_result(
      info.Env(),
      [ref = directory_from(info[0]), work = std::move(work)]() -> Result<Value> {
        const Fd layer = TRY(open_directory(ref));
        return work(layer.get());
      },
      [to_js](Napi::Env env, const Value& value) -> Napi::Value { return to_js(env, value); });
}

using OfPaths = Batch (*)(int, const std::vector<std::string>&, const std::string&, const Cancel&);

Napi::Value of_paths(const Napi::CallbackInfo& info, OfPaths function) {
  return in_layer(
      info,
      [function, paths = paths_from(info[1]), prefix = text(info[2]),
       cancel = cancel_from(info[3])](int layer) { return function(layer, paths, prefix, cancel); },
      batch_to_js);
}

WhiteoutOrder order_from(const Napi::CallbackInfo& info) {
  WhiteoutOrder order;
  order.paths = paths_from(info[1]);
  order.xattr_prefix = text(info[2]);
  if (!info[3].IsObject()) return order;
  const auto options = info[3].As<Napi::Object>();
  order.form = text(get(options, "form")) == "xattr" ? WhiteoutForm::xattr : WhiteoutForm::device;
  order.share = truth(get(options, "share"));
  order.replace = truth(get(options, "replace"));
  return order;
}

Napi::Value overlay_xattrs_to_js(Napi::Env env, const OverlayXattrs& xattrs) {
  auto js = batch_to_js(env, xattrs.batch);
  js.Set("packed", bytes_to_js(env, xattrs.packed));
  return js;
}

}  // namespace

Napi::Value create_whiteouts_verb(const Napi::CallbackInfo& info) {
  return in_layer(
      info,
      [order = order_from(info), cancel = cancel_from(info[4])](int layer) {
        return create_whiteouts(layer, order, cancel);
      },
      batch_to_js);
}

Napi::Value whiteout_forms_verb(const Napi::CallbackInfo& info) { return of_paths(info, whiteout_forms); }
Napi::Value remove_whiteouts_verb(const Napi::CallbackInfo& info) { return of_paths(info, remove_whiteouts); }
Napi::Value set_opaque_verb(const Napi::CallbackInfo& info) { return of_paths(info, set_opaque); }
Napi::Value clear_opaque_verb(const Napi::CallbackInfo& info) { return of_paths(info, clear_opaque); }
Napi::Value opaque_forms_verb(const Napi::CallbackInfo& info) { return of_paths(info, opaque_forms); }

Napi::Value rename_with_whiteout_verb(const Napi::CallbackInfo& info) {
  return in_layer(
      info,
      [from = bytes_from(info[1]), to = bytes_from(info[2]), prefix = text(info[3]),
       replace = truth(info[4])](int layer) {
        return rename_with_whiteout(layer, from, to, replace, prefix);
      },
      [](Napi::Env env, const std::optional<BatchError>& failure) -> Napi::Value {
        return failure ? Napi::Value(failure_to_js(env, *failure)) : env.Undefined();
      });
}

Napi::Value read_overlay_xattrs_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [ref = directory_from(info[0]), paths = paths_from(info[1]), prefix = text(info[2]),
       cancel = cancel_from(info[3])]() -> Result<OverlayXattrs> {
        // A descriptor asked of by itself may be any file's.
        if (ref.fd >= 0 && paths == std::vector<std::string>{""})
          return read_overlay_xattrs(ref.fd, paths, prefix, cancel);
        const Fd layer = TRY(open_directory(ref));
        return read_overlay_xattrs(layer.get(), paths, prefix, cancel);
      },
      overlay_xattrs_to_js);
}

Napi::Value write_overlay_xattrs_verb(const Napi::CallbackInfo& info) {
  std::vector<std::string> names = paths_from(info[2]), contents = values_from(info[3]);
  std::vector<NamedValue> values;
  values.reserve(names.size());
  for (size_t i = 0; i < std::min(names.size(), contents.size()); ++i)
    values.push_back({std::move(names[i]), std::move(contents[i])});
  return in_layer(
      info,
      [paths = paths_from(info[1]), values = std::move(values), prefix = text(info[4]),
       cancel = cancel_from(info[5])](int layer) {
        return write_overlay_xattrs(layer, paths, values, prefix, cancel);
      },
      batch_to_js);
}

Napi::Value strip_overlay_xattrs_verb(const Napi::CallbackInfo& info) {
  return in_layer(
      info,
      [order = StripOrder{paths_from(info[1]), text(info[2]), truth(info[3]), truth(info[4])},
       cancel = cancel_from(info[5])](int layer) { return strip_overlay_xattrs(layer, order, cancel); },
      [](Napi::Env env, const Stripped& stripped) -> Napi::Value {
        auto js = batch_to_js(env, stripped.batch);
        js.Set("removed", static_cast<double>(stripped.removed));
        js.Set("unescaped", static_cast<double>(stripped.unescaped));
        return js;
      });
}

Napi::Value decode_overlay_xattr_verb(const Napi::CallbackInfo& info) {
  std::string packed;
  pack_overlay_xattr(packed, 0, bytes_from(info[0]), bytes_from(info[1]));
  return bytes_to_js(info.Env(), packed);
}

Napi::Value upper_in_use_verb(const Napi::CallbackInfo& info) {
  return run_result(
      info.Env(),
      [ref = directory_from(info[0]), rung = rung_from(info[1]),
       detached = truth(info[2])]() -> Result<InUse> {
        OpenLayer layer{TRY(open_directory(ref)), ref.path, {}};
        return probe_in_use(layer, rung, detached).answer;
      },
      [](Napi::Env env, InUse answer) -> Napi::Value {
        return Napi::String::New(env, answer == InUse::no        ? "no"
                                      : answer == InUse::unknown ? "unknown"
                                                                 : "upper");
      });
}

}  // namespace overlayfs
