//! What people open in runs, in a real browser: JupyterLab, Gradio and Streamlit through the proxy of ports.
use std::process::Command;

use serde_json::Value;

use crate::jupyter::{end, link, notebook, tools, wheels};
use crate::test::{Test, until};

/// What the browser saw.
fn seen(what: &str, link: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/browser.py");
    let python = tools().join("python/bin/python3");
    let done = Command::new(python).args([script, what, link]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn a_browser_runs_a_cell_sees_a_plot_and_types_into_a_terminal() {
    let test = Test::new().env("VESSL_SERVER_JUPYTER_WHEELS", &wheels());
    let id = test.create(&notebook());
    let seen = seen("notebook", &link(&test, &id));
    assert_eq!(seen["text"], "42", "{seen}");
    assert!(seen["plot"][0].as_u64().unwrap() > 100, "{seen}");
    assert!(seen["files"].as_array().unwrap().contains(&"usr".into()), "{seen}");
    assert_eq!(seen["errors"], serde_json::json!([]), "{seen}");
    let typed = || test.vessl(["run", "exec", &id, "--", "cat", "/tmp/from-terminal"]).stdout == "typed\n";
    until("nothing was typed into the terminal", typed);
    end(&test, &id);
}

const GRADIO: &str = "import gradio
gradio.Interface(lambda name: f'hello {name}', gradio.Textbox(label='name'), 'text', flagging_mode='never').launch(server_port=7860)";

const STREAMLIT: &str = "import streamlit
if streamlit.button('Press'):
    streamlit.session_state.count = streamlit.session_state.get('count', 0) + 1
streamlit.write(f'pressed {streamlit.session_state.get(\"count\", 0)} times')";

#[test]
fn gradio_and_streamlit_work_in_a_browser() {
    let test = Test::new();
    let path = format!("{}/python/bin:/usr/local/bin:/usr/bin:/bin", tools().display());
    let script = format!(
        "cat > /tmp/page.py <<'EOF'\n{STREAMLIT}\nEOF\ncat > /tmp/hello.py <<'EOF'\n{GRADIO}\nEOF\n\
         streamlit run /tmp/page.py --server.port 8501 --server.headless true --browser.gatherUsageStats false &\n\
         python3 /tmp/hello.py"
    );
    let id = test.create(&format!(
        "name: pages\nimage: host://\nresources:\n  requests: {{cpu: 500m, memory: 2Gi}}\n\
         env: {{PATH: {path}, GRADIO_ANALYTICS_ENABLED: \"False\", HF_HUB_OFFLINE: \"1\"}}\n{}ports: [7860, 8501]\n",
        crate::specs::item(&script)
    ));
    let listens = || {
        let run = test.read(&id);
        assert!(run["ended_at"].is_null(), "{}", test.vessl(["run", "logs", &id]).stdout);
        run["ports"].as_array().unwrap().iter().all(|port| port["open"] == true)
    };
    until("the pages do not come", listens);
    for (what, port, text) in [("gradio", "7860", "hello vessl"), ("streamlit", "8501", "pressed 1 times")] {
        let link = test.vessl(["run", "open", &id, port, "--no-browser"]).ok().stdout;
        assert_eq!(seen(what, link.trim())["text"], text);
    }
    end(&test, &id);
}
