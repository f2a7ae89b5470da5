package warm

import (
	"reflect"
	"testing"

	"py3run/sandbox"
)

// Two Setups have the same key exactly if sameKey says so, whichever field differs.
func TestSameKey(t *testing.T) {
	t.Parallel()
	notInKey := map[string]bool{"Dir": true, "CacheDir": true, "KeyFile": true, "Spares": true, "Idle": true, "Limits": true, "Run": true, "Ahead": true}
	base := Setup{PoolKey: sandbox.PoolKey{KeepCapabilities: []string{"CAP_CHOWN"}}, Environ: []string{"A=1"}}
	if !base.sameKey(base) {
		t.Error("a Setup is not like itself")
	}
	check := func(name string, other Setup, differs bool) {
		t.Helper()
		if base.sameKey(other) == differs || (base.Key() == other.Key()) == differs {
			t.Errorf("%s: sameKey %t, keys are equal %t, want both %t", name, base.sameKey(other), base.Key() == other.Key(), !differs)
		}
	}
	change := func(v reflect.Value) bool {
		switch v.Kind() {
		case reflect.String:
			v.SetString("other")
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Int, reflect.Int64:
			v.SetInt(7)
		case reflect.Slice:
			v.Set(reflect.ValueOf([]string{"other"}))
		default:
			return false
		}
		return true
	}
	for i := range reflect.TypeFor[Setup]().NumField() {
		other := base
		name := reflect.TypeFor[Setup]().Field(i).Name
		if change(reflect.ValueOf(&other).Elem().Field(i)) {
			check(name, other, !notInKey[name])
		}
	}
	for i := range reflect.TypeFor[sandbox.PoolKey]().NumField() {
		other := base
		if change(reflect.ValueOf(&other.PoolKey).Elem().Field(i)) {
			check("PoolKey."+reflect.TypeFor[sandbox.PoolKey]().Field(i).Name, other, true)
		}
	}
}
