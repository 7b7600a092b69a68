"""Files that builds really leave, and files that only look like them: the hygiene check finds the first ones only.

Secrets are made up when a test runs, from random letters, so that this repository holds none.
"""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Mapping

from tests.provisioner.hygiene.memory_files import pem

ALNUM = string.ascii_letters + string.digits
BASE64 = ALNUM + "+/"
URL_SAFE = ALNUM + "-_"
HEX = "0123456789abcdef"


class Letters:
    """Draws made-up secrets, the same ones for a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def draw(self, alphabet: str, length: int) -> str:
        """Draw letters, among them a small one, a capital one and a digit, where the alphabet has them."""
        kinds = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
        while True:
            word = "".join(self._random.choice(alphabet) for _ in range(length))
            if all(set(kind) & set(word) for kind in kinds if set(kind) & set(alphabet)):
                return word

    def token(self, length: int = 32) -> str:
        """Draw a token of letters and digits."""
        return self.draw(ALNUM, length)

    def password(self) -> str:
        """Draw a password of the recommended form."""
        return self.draw(ALNUM, 4) + "!" + self.draw(ALNUM, 5) + "%" + self.draw(ALNUM, 3)


def leftovers(seed: int = 1) -> Mapping[str, bytes]:
    """Return files that must be found, each in its own place."""
    draw = Letters(seed)
    files = {**_keys(draw), **_files_of_programs(draw), **_networks(draw), **_assignments(draw), **_tokens(draw)}
    return {path: text.encode() for path, text in files.items()}


def harmless(seed: int = 1) -> Mapping[str, bytes]:
    """Return files that must pass."""
    draw = Letters(seed)
    files = {**_published(), **_explanations(), **_references(draw), **_empty(), **_names(draw)}
    return {path: text.encode() for path, text in files.items()}


def _service_account(**more: str) -> dict[str, str]:
    return {"type": "service_" + "account", "project_id": "p", "private_key": pem("PRIVATE"), **more}


def _keys(draw: Letters) -> dict[str, str]:
    account = json.dumps(_service_account())
    return {
        "/opt/app/server.key": pem("RSA PRIVATE"),
        "/etc/app/tls/key.pem": pem("PRIVATE"),
        "/root/.ssh/id_ed25519": pem("OPENSSH PRIVATE"),
        "/home/ann/.ssh/deploy": pem("EC PRIVATE").replace("\n", "\r\n"),
        "/etc/app/one-line.env": "TLS_KEY=" + pem("PRIVATE").replace("\n", "\\n") + "\n",
        "/etc/app/spaces.env": "TLS_KEY=" + pem("PRIVATE").replace("\n", " ") + "\n",
        "/etc/app/config.yaml": "key: |\n" + "".join(f"    {line}\n" for line in pem("PRIVATE").splitlines()),
        "/etc/app/encoded.yaml": "tls.key: " + base64.b64encode(pem("PRIVATE").encode()).decode() + "\n",
        "/opt/app/account.json": json.dumps(_service_account(), indent=2),
        "/opt/app/account-in-json.json": json.dumps({"credentials": account}),
        "/opt/app/account.env": "CREDENTIALS=" + base64.b64encode(account.encode()).decode() + "\n",
        "/opt/app/account-pretty.env": base64.b64encode(json.dumps(_service_account(), indent=2).encode()).decode(),
        "/root/backup.asc": pem("PGP PRIVATE").replace("KEY--", "KEY BLOCK--").replace("-\n", "-\nVersion: 1\n\n", 1),
        "/opt/rails/config/master.key": draw.draw(HEX, 32),
    }


def _files_of_programs(draw: Letters) -> dict[str, str]:
    word = draw.token(10)
    encoded = base64.b64encode(word.encode()).decode()
    return {
        "/root/.pgpass": f"# host:port:database:user:password\ndb.corp:5432:app:app:{word}\n",
        "/root/.my.cnf": f"[client]\nuser=root\npassword={word}\n",
        "/root/.netrc": f"machine git.corp\nlogin ann\npassword {word}\n",
        "/etc/apt/auth.conf.d/corp.conf": f"machine apt.corp login ann password {word}\n",
        "/root/.vault-token": "hvs" + "." + draw.token(24),
        "/root/.vault_pass.txt": f"{word}\n",
        "/root/.m2/settings.xml": f"<servers><server><password>{word}</password></server></servers>",
        "/opt/maven/settings.xml": f"<!-- <password>no</password> --><server><password>{word}</password></server>",
        "/root/.cargo/credentials.toml": f'[registry]\ntoken = "{word}"\n',
        "/root/.config/rclone/rclone.conf": f"[box]\ntype = sftp\npass = {word}\n",
        "/root/.pypirc": f"[pypi]\nusername = ann\npassword = {word}\n",
        "/root/.npmrc": f"//npm.corp/:_authToken={draw.draw(HEX, 8)}-{draw.draw(HEX, 4)}-{draw.draw(HEX, 12)}\n",
        "/opt/app/.npmrc": f"//npm.corp/:_auth={base64.b64encode(word.encode()).decode()}\n",
        "/root/.yarnrc.yml": f'npmAuthToken: "{word}"\n',
        "/root/.git-credentials": f"https://ann:{word}@git.corp\n",
        "/root/.aws/credentials": f"[default]\naws_secret_access_key = {draw.draw(BASE64, 40)}\n",
        "/root/.s3cfg": f"[default]\nsecret_key = {draw.draw(BASE64, 40)}\n",
        "/root/.docker/config.json": '{"auths": {"r.corp": {"auth": "'
        + base64.b64encode(word.encode()).decode()
        + '"}}}',
        "/opt/infra/terraform.tfstate": '{"resources": [{"instances": [{"attributes": {"password": "x"}}]}]}',
        "/opt/infra/terraform.tfstate.backup": '{"outputs": {"key": {"value": "x"}}}',
        "/root/.terraform.d/credentials.tfrc.json": json.dumps({"credentials": {"tf.corp": {"token": word}}}),
        "/root/.config/composer/auth.json": json.dumps({"http-basic": {"r.corp": {"password": word}}}),
        "/etc/postfix/sasl_passwd": f"[smtp.corp]:587 ann:{word}\n",
        "/root/.smbcredentials": f"username=ann\npassword={word}\n",
        "/root/.kube/config": f"users:\n- user:\n    token: {word}\n",
        "/root/.gitconfig": f"[http]\n  extraheader = AUTHORIZATION: basic {encoded}\n",
    }


def _networks(draw: Letters) -> dict[str, str]:
    key = base64.b64encode(bytes(range(32))).decode()
    return {
        "/etc/wpa_supplicant/wpa_supplicant.conf": 'network={\n  ssid="home"\n  psk="Wifi of ann"\n}\n',
        "/etc/NetworkManager/system-connections/home.nmconnection": "[wifi-security]\npsk=Wifi-of-ann\n",
        "/etc/netplan/60-wifi.yaml": 'network:\n  wifis:\n    wlan0:\n      auth:\n        password: "ann"\n',
        "/opt/setup/wlan.conf": "psk=WirelessOfAnn1\n",
        "/etc/wireguard/wg0.conf": f"[Interface]\nPrivateKey = {key}\n",
        "/etc/ppp/chap-secrets": f"# client server secret addresses\nann * {draw.token(9)} *\n",
        "/etc/ipsec.secrets": f'# ours\n%any : PSK "{draw.token(9)}"\n',
    }


def _assignments(draw: Letters) -> dict[str, str]:
    aws = draw.draw(BASE64, 40)
    return {
        "/opt/app/.env": f"DB_HOST=db\nDB_PASSWORD={draw.password()}\n",
        "/etc/environment": f'PATH="/usr/bin"\nAPI_TOKEN="{draw.token(40)}"\n',
        "/etc/default/app": f"export SECRET_KEY='{draw.draw(URL_SAFE, 50)}'\n",
        "/etc/systemd/system/app.service": f"[Service]\nEnvironment=AWS_SECRET_ACCESS_KEY={aws}\n",
        "/opt/app/aws.env": f"AWS_SECRET_ACCESS_KEY={aws}\n",
        "/opt/app/aws.json": json.dumps({"Credentials": {"SecretAccessKey": aws}}),
        "/opt/app/aws.yaml": f"secretAccessKey: {aws}\n",
        "/opt/app/appsettings.json": json.dumps({"Smtp": {"Password": draw.password()}}),
        "/opt/app/application.properties": f"spring.datasource.password={draw.password()}\n",
        "/opt/app/values.yaml": f"auth:\n  password: '{draw.password()}'\n",
        "/opt/app/settings.py": f"SECRET_KEY = '{draw.draw(URL_SAFE, 50)}'\n",
        "/opt/app/config.php": f"$cfg['db_password'] = '{draw.password()}';\n",
        "/opt/app/web.config": f'<add key="token" value="x"/><smtp password="{draw.password()}"/>\n',
        "/opt/app/escaped.json": json.dumps({"env": json.dumps({"API_KEY": draw.token()})}),
        "/etc/pip.conf": f"[global]\nindex-url = https://deploy:{draw.token(12)}@pypi.corp/simple\n",
        "/opt/app/database.yml": f"url: postgres://app:{draw.token(12)}@db/app\n",
        "/opt/app/celery.conf": f"broker=redis://:{draw.token(12)}@redis:6379/0\n",
        "/etc/yum.repos.d/corp.repo": f"baseurl=https://ann:{draw.token(12)}@rpm.corp/el9\n",
        "/root/.config/git/config": f"[remote]\n  url = https://oauth2:{draw.token(20)}@git.corp/app.git\n",
    }


def _tokens(draw: Letters) -> dict[str, str]:
    upper = string.ascii_uppercase + string.digits
    tokens = {
        "anthropic": "sk-" + "ant-api03-" + draw.draw(URL_SAFE, 93),
        "openai": "sk-" + "proj-" + draw.draw(URL_SAFE, 60),
        "stripe": "sk_" + "live_" + draw.token(24),
        "stripe-restricted": "rk_" + "live_" + draw.token(24),
        "hugging-face": "hf" + "_" + draw.draw(string.ascii_letters, 34),
        "gitlab-runner": "gl" + "rt-" + draw.draw(URL_SAFE, 20),
        "gitlab": "gl" + "pat-" + draw.draw(URL_SAFE, 20),
        "github": "gh" + "p_" + draw.token(36),
        "github-new": "github" + "_pat_" + draw.token(82),
        "sendgrid": "SG" + "." + draw.draw(URL_SAFE, 22) + "." + draw.draw(URL_SAFE, 43),
        "digitalocean": "dop" + "_v1_" + draw.draw(HEX, 64),
        "slack-webhook": f"https://hooks.slack.com/services/T{draw.draw(upper, 10)}/B{upper[:10]}/{draw.token(24)}",
        "slack": "xo" + "xb-123456789012-1234567890123-" + draw.token(24),
        "azure": f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={draw.draw(BASE64, 86)}==;",
        "aws": "AK" + "IA" + draw.draw(upper, 16),
        "aws-session": "AS" + "IA" + draw.draw(upper, 16),
        "vault": "hv" + "s." + draw.token(90),
        "npm": "np" + "m_" + draw.token(36),
        "pypi": "py" + "pi-AgE" + draw.draw(URL_SAFE, 120),
        "google": "AI" + "za" + draw.draw(URL_SAFE, 35),
        "jwt": f"eyJ{draw.token(30)}.eyJ{draw.token(60)}.{draw.draw(URL_SAFE, 43)}",
        "docker-hub": "dckr" + "_pat_" + draw.draw(URL_SAFE, 27),
    }
    return {f"/opt/app/tokens/{name}.txt": f"# to be put in place\n{text}\n" for name, text in tokens.items()}


def _published() -> dict[str, str]:
    key = pem("RSA PRIVATE")
    return {
        "/opt/app/examples/server.key": key,
        "/opt/vendor/lib/examples/tls/client.pem": key,
        "/opt/app/sample/key.pem": key,
        "/srv/app/tests/fixtures/id_rsa": key,
        "/opt/app/testdata/key.pem": key,
        "/usr/local/go/src/crypto/tls/testdata/example-key.pem": key,
        "/usr/local/go/src/crypto/tls/example_test.go": f"const keyPEM = `{key}`\n",
        "/usr/local/go/src/net/http/internal/testcert/testcert.go": f"var LocalhostKey = []byte(`{key}`)\n",
        "/opt/go1.21.5/src/crypto/x509/x509_test.go": f"var pemPrivateKey = `{key}`\n",
        "/root/go/pkg/mod/example.org/x@v1/key.pem": key,
        "/opt/app/server/tls_test.go": f"const key = `{key}`\n",
        "/opt/venv/lib/python3.11/site-packages/trustme/key.pem": key,
        "/opt/app/node_modules/tls/test/key.pem": key,
        "/usr/share/doc/openvpn/server.key": key,
        "/etc/ssl/private/ssl-cert-snakeoil.key": key,
    }


def _explanations() -> dict[str, str]:
    example = "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY"
    subject = "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ"
    jwt_io = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9." + subject
    return {
        "/opt/docs/aws.md": f"aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = {example}\n",
        "/opt/docs/aws-env.md": f"AWS_SECRET_ACCESS_KEY={example}\nAWS_ACCESS_KEY_ID=ASIAIOSFODNN7EXAMPLE\n",
        "/opt/docs/aws.json": json.dumps({"AccessKeyId": "AKIAI44QH8DHB" + "EXAMPLE", "SecretAccessKey": example}),
        "/opt/docs/pem.md": "A key begins with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----.\n",
        "/opt/docs/proxy.md": "export https_proxy=http://user:password@proxy.example.com:8080\n",
        "/opt/docs/git.md": "git clone https://username:token@git.example.com/x.git or https://<user>:<token>@host\n",
        "/opt/docs/stripe.md": "Set STRIPE_KEY to sk_" + "live_" + "x" * 24 + ".\n",
        "/opt/docs/jwt.md": f"{jwt_io}.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c\n",
        "/opt/docs/http.md": "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\nAuthorization: Bearer <token>\n",
        "/opt/app/.env.dist": "DB_PASSWORD=change-me-1234\nAPI_TOKEN=your-token-here-42\nSECRET=xxxxxxxxxxxx1A\n",
        "/opt/maven/conf/settings.xml": "<settings><!-- <server><password>repopwd</password></server> --></settings>\n",
        "/etc/wgetrc": "#https_proxy = http://proxy.yoyodyne.com:18023/\n",
    }


def _references(draw: Letters) -> dict[str, str]:
    return {
        "/etc/app/by-variable.env": "DB_PASSWORD=${DB_PASSWORD}\nAPI_TOKEN=$API_TOKEN_V2\n",
        "/opt/app/values.yaml.tpl": "password: {{ .Values.auth.password2 | quote }}\ntoken: <%= ENV['TOKEN1'] %>\n",
        "/etc/app/by-file.conf": "password_file = /run/secrets/db1\npassword = /run/secrets/db1_password\n",
        "/opt/app/app.py": "password = getpass.getpass()\ntoken = r.headers['X-Token-2']\nsecret = self.Secret2\n",
        "/opt/app/app.go": 'token := ctx.Value2\npassword: os.Getenv("DB1_PASSWORD"),\n',
        "/opt/app/client.js": "url = `https://${user}:${password}@${host}/`\nconst apiKey = config.get('apiKey2')\n",
        "/opt/app/compose.yaml": "db:\n  environment:\n    POSTGRES_PASSWORD: ${DB_PASSWORD:?not set}\n",
        "/root/.npmrc.dist": "//registry.npmjs.org/:_authToken=${NPM_TOKEN}\n",
        "/opt/k8s/deployment.yaml": "secret: db-creds-v1\nsecretName: app-tls-v2\nsecretKeyRef: {key: password}\n",
        "/opt/app/sealed.yaml": "password: ENC[AES256_GCM,data:" + draw.token(16) + ",iv:" + draw.token(16) + "]\n",
    }


def _empty() -> dict[str, str]:
    return {
        "/etc/ppp/pap-secrets": '# Secrets\n*\thostname\t""\t*\nguest\thostname\t"*"\t-\n',
        "/etc/postgresql/15/main/pg_hba.conf": "host all all 127.0.0.1/32 scram-sha-256\n",
        "/root/.my.cnf": "[client]\nuser=root\n#password=\npassword=\n",
        "/root/.pgpass": "# hostname:port:database:username:password\n",
        "/root/.config/rclone/rclone.conf": "[box]\ntype = local\n",
        "/root/.cargo/credentials.toml": "[registry]\n",
        "/opt/infra/terraform.tfstate": '{"version": 4, "outputs": {}, "resources": []}\n',
        "/etc/wpa_supplicant/wpa_supplicant.conf": "ctrl_interface=/run/wpa\nnetwork={\n  key_mgmt=NONE\n}\n",
        "/etc/NetworkManager/system-connections/eth.nmconnection": "[802-1x]\npassword-flags=1\n",
        "/etc/shadow": "root:*:19000:0:99999:7:::\nann:!:19000:0:99999:7:::\n",
        "/root/.docker/config.json": '{"auths": {"r.corp": {}}, "credsStore": "gcloud"}\n',
    }


def _names(draw: Letters) -> dict[str, str]:
    return {
        "/etc/nsswitch.conf": "passwd: files systemd\nshadow: files\n",
        "/etc/login.defs": "PASS_MAX_DAYS 99999\nENCRYPT_METHOD SHA512\n",
        "/opt/net/app.dll.config": '<assemblyIdentity name="A" publicKeyToken="b77a5c561934e089"/>\n',
        "/opt/app/package-lock.json": '{"js-tokens": {"version": "4.0.0", "integrity": "sha512-'
        + draw.token(80)
        + '=="}}\n',
        "/opt/app/model.json": json.dumps(
            {"tokenizer": "BertTokenizerFast2", "pad_token": "[PAD1]", "token": "MyToken2"}
        ),
        "/opt/app/build.lock": f"checksum = {draw.draw(HEX, 64)}\ncommit: {draw.draw(HEX, 40)}\n",
        "/etc/ssh/moduli": f"20220101000000 2 6 100 2047 2 {draw.draw(HEX, 512).upper()}\n",
        "/opt/app/ids.yaml": "token: 2024-01-01T00:00:00Z\npassword: 1.2.3-rc1\nsecret: sha256:"
        + draw.draw(HEX, 64)
        + "\n",
    }
