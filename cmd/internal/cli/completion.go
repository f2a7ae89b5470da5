package cli

import (
	"bytes"
	"strings"

	"github.com/spf13/cobra"
)

// completeAnywhere makes cobra's script for bash work without the package bash-completion, whose
// functions it uses: in a container that has only bash, each Tab would print an error.
func completeAnywhere(root *cobra.Command) {
	bash, _, err := root.Find([]string{"completion", "bash"})
	if err != nil || bash.Name() != "bash" {
		return
	}
	bash.RunE = func(c *cobra.Command, _ []string) error {
		short, _ := c.Flags().GetBool("no-descriptions")
		var script bytes.Buffer
		if err := c.Root().GenBashCompletionV2(&script, !short); err != nil {
			return err
		}
		_, err := c.OutOrStdout().Write([]byte(strings.Replace(script.String(), wordsByPackage, wordsByOurselves, 1)))
		return err
	}
}

const wordsByPackage = `    _get_comp_words_by_ref "$@" cur prev words cword
`

// Bash splits --flag=value and a:b into three words each. This puts them together again.
const wordsByOurselves = `    if declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    local i last=-1
    words=()
    cword=0
    for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
        if ((last > 0)) && [[ ${COMP_WORDS[i]} == [=:]* || ${words[last]} == *[=:] ]]; then
            words[last]+=${COMP_WORDS[i]}
        else
            last=$((last + 1))
            words[last]=${COMP_WORDS[i]}
        fi
        if ((i == COMP_CWORD)); then
            cword=$last
        fi
    done
    cur=${words[cword]}
    prev=""
    if ((cword > 0)); then
        prev=${words[cword-1]}
    fi
`
