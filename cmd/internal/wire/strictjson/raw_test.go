package strictjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// What the tokens of a Raw say is what a tree of the same text says.
func FuzzRaw(f *testing.F) {
	for _, text := range []string{
		`[]`, `{}`, ` [ ] `, `[[],{},[{}]]`, `{"a":{"b":[1,-2.5e-3,"x"]},"":null}`, "[\n\ttrue , false,null\r\n]",
		`["", "a\"b\\", "\u00e9\ud83d\ude00", "é😀", ":", "a:b"]`, `{"a:b" : "c" , "\n":":"}`, `[0,-0,12345678901234567890,1E5,0.1]`, `{"t":true,"f":false,"n":null}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		const around = 2 // containers
		want, err := Parse(data, Options{MaxDepth: 64 - around})
		v, refused := Parse([]byte(`{"args": [`+string(data)+`]}`), Options{MaxDepth: 64, RawDepth: around})
		if err != nil || refused != nil {
			return
		}
		args, _ := v.(*Object).Get("args")
		list := args.([]any)
		if len(list) != 1 {
			return // "1, 2" is two
		}
		raw, ok := list[0].(*Raw)
		if !ok {
			if !reflect.DeepEqual(list[0], want) {
				t.Errorf("%#v, want %#v", list[0], want)
			}
			return
		}
		if got := rebuilt(raw); !reflect.DeepEqual(got, want) {
			t.Errorf("%#v, want %#v", got, want)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, data); err != nil || raw.Size != compact.Len() {
			t.Errorf("size %d, want %d (%v)", raw.Size, compact.Len(), err)
		}
		if got, want := Append(nil, raw), Append(nil, want); !bytes.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// rebuilt makes a tree of tokens.
func rebuilt(r *Raw) any {
	var above []any // open containers: *[]any and *Object
	var last any
	put := func(v any) {
		last = v
		if len(above) == 0 {
			return
		}
		switch c := above[len(above)-1].(type) {
		case *[]any:
			*c = append(*c, v)
		case *Object:
			c.Values = append(c.Values, v)
		}
	}
	for t := range r.Tokens() {
		switch t.Kind {
		case '[':
			above = append(above, &[]any{})
		case '{':
			above = append(above, &Object{})
		case ']', '}':
			v := above[len(above)-1]
			above = above[:len(above)-1]
			if list, ok := v.(*[]any); ok {
				put(*list)
			} else {
				put(v)
			}
		case ':':
			o := above[len(above)-1].(*Object)
			o.Names = append(o.Names, t.Text)
		case '"':
			put(t.Text)
		case '0':
			put(Number(t.Text))
		case 't', 'f':
			put(t.Kind == 't')
		case 'n':
			put(nil)
		}
	}
	return last
}

func TestRawStops(t *testing.T) {
	t.Parallel()
	n := 0
	for range (&Raw{Text: `[1,2,3]`}).Tokens() {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d tokens, want 2", n)
	}
}
