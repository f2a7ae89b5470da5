package json

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

type level int

type inner struct {
	A string   `json:"a"`
	B []string `json:"b,omitempty"`
	_ int
}

type Embedded struct {
	E string `json:"e"`
	F *int   `json:"f,omitempty"`
}

type Plain struct{ G bool }

type stamp time.Time

func (t stamp) MarshalText() ([]byte, error) { return []byte(time.Time(t).Format(time.RFC3339)), nil }

type list struct{ n []int }

func (l list) MarshalJSON() ([]byte, error) { return json.Marshal(l.n) }

type outer struct {
	Bool     bool               `json:"bool"`
	Level    level              `json:"level,omitempty"`
	Big      uint64             `json:"big"`
	Small    int8               `json:"small"`
	Float    float64            `json:"float"`
	Floats   map[string]float64 `json:"floats,omitempty"`
	Names    map[string]string  `json:"names"`
	Text     string             `json:"text,omitempty"`
	Hidden   string             `json:"-"`
	Untagged string
	Inner    inner            `json:"inner"`
	Pointer  *inner           `json:"pointer"`
	Maybe    *inner           `json:"maybe,omitempty"`
	List     []inner          `json:"list"`
	Given    []string         `json:"given,omitzero"`
	Any      any              `json:"any,omitempty"`
	Raw      json.RawMessage  `json:"raw,omitempty"`
	Stamp    stamp            `json:"stamp"`
	Own      list             `json:"own"`
	OwnMaybe *list            `json:"own_maybe"`
	Deep     map[string][]any `json:"deep,omitempty"`
	*Embedded
	Plain
}

// What it writes is what encoding/json writes, for whatever stands in the fields.
func TestAppend(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		var o outer
		fill(random, reflect.ValueOf(&o).Elem(), 0)
		same(t, o)
		same(t, &o)
	}
}

func TestAppendTop(t *testing.T) {
	t.Parallel()
	var none *inner
	for _, v := range []any{nil, none, 1, "a", []string(nil), []string{}, map[string]any(nil), map[string]any{"b": 1, "a": []any{nil, 1.5}}, true, list{}, math.MaxInt64, struct{}{}} {
		same(t, v)
	}
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	for _, v := range []any{math.NaN(), math.Inf(-1), make(chan int), []byte("a"), map[int]int{1: 1}, json.RawMessage("{"), json.RawMessage(""), []any{1, func() {}}} {
		if got, err := Append(nil, v); err == nil {
			t.Errorf("%#v is %s, want an error", v, got)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a<b>&", "\x00\b\f\n\r\t\x1f\x7f\"\\/", "é\u2028\u2029\ufffd😀", "\xff\xed\xa0\x80", "\xe2\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { same(t, s) })
}

func FuzzFloat(f *testing.F) {
	for _, x := range []float64{0, math.Copysign(0, -1), 1e-6, 9.9e-7, 1e21, 1e20, 1.5e-9, 1e-10, 1e100, 5e-324, math.MaxFloat64, 100} {
		f.Add(x)
	}
	f.Fuzz(func(t *testing.T, x float64) {
		if x-x == 0 {
			same(t, x)
		}
	})
}

func same(t *testing.T, v any) {
	t.Helper()
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	got, err := Append([]byte("x"), v)
	if err != nil || "x"+want.String() != string(got)+"\n" {
		t.Errorf("%v\n got %s\nwant x%s", err, got, want.String())
	}
}

func fill(random *rand.Rand, v reflect.Value, depth int) {
	some := random.IntN(3) > 0 && depth < 4
	texts := []string{"", "a", "é\n\"\\<", "\xff", "\u2028 \u00a0"}
	switch x := v.Addr().Interface().(type) {
	case *json.RawMessage:
		*x = []json.RawMessage{nil, json.RawMessage(` {"a" : [1, "<"] } `), json.RawMessage(`1`)}[random.IntN(3)]
		return
	case *stamp:
		*x = stamp(time.Unix(random.Int64N(1e9), 0).UTC())
		return
	case *list:
		if some {
			x.n = []int{random.IntN(9)}
		}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(some)
	case reflect.Int, reflect.Int8:
		v.SetInt(int64(random.IntN(256) - 128))
	case reflect.Uint64:
		v.SetUint(random.Uint64() >> random.IntN(65))
	case reflect.Float64:
		v.SetFloat([]float64{0, -1.5, 1e-7, 3e21, 12345678901}[random.IntN(5)])
	case reflect.String:
		v.SetString(texts[random.IntN(len(texts))])
	case reflect.Pointer:
		if some {
			v.Set(reflect.New(v.Type().Elem()))
			fill(random, v.Elem(), depth+1)
		}
	case reflect.Interface:
		if some {
			v.Set(reflect.ValueOf([]any{1, "a", true, map[string]any{"k": 1.5}, inner{A: "a"}}[random.IntN(5)]))
		}
	case reflect.Slice:
		if some {
			v.Set(reflect.MakeSlice(v.Type(), random.IntN(3), 3))
			for i := range v.Len() {
				fill(random, v.Index(i), depth+1)
			}
		}
	case reflect.Map:
		if some {
			v.Set(reflect.MakeMap(v.Type()))
			for range random.IntN(4) {
				x := reflect.New(v.Type().Elem()).Elem()
				fill(random, x, depth+1)
				v.SetMapIndex(reflect.ValueOf(texts[random.IntN(4)]), x)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(random, v.Field(i), depth+1)
			}
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for r := range rune(0x11000) {
		if text := "a" + string(r) + "b"; r < 0xd800 || r > 0xdfff {
			if form, _ := Append(nil, text); Size(text) != len(form) {
				t.Errorf("%q: %d, want %d", text, Size(text), len(form))
			}
		}
	}
}
